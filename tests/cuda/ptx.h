#ifndef PTX_H
#define PTX_H
/*
 * ptx: runs the PTX that nvcc made of a kernel (nvcc -ptx) on the CPU: a check
 * of the device code itself, whatever another compiler makes of its source.
 * CUSIM_PTX=a.ptx:b.ptx names the files.  What nvcc emits for plain kernels is
 * covered (no calls, mma, cp.async, textures); an unknown opcode is an error.
 */
#include "emulator.h"

namespace cusim {

// Dies when the files have no entry of that (mangled) name.
void ptx_run(const char *entry, const kernel_launch &what);

} // namespace cusim

#endif
