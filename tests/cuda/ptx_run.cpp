// The executor of PTX: not here yet.
#include "ptx.h"

namespace cusim {

void ptx_run(const char *entry, const kernel_launch &)
{
	die("no interpreter for the PTX of %s in this build", entry);
}

} // namespace cusim
