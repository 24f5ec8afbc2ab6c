#include "backend.h"

void backend_cpu(struct backend *b)
{
	backend_ref(b);
	b->name = "cpu";
}
