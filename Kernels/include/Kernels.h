#ifndef FOVEA_KERNELS_H
#define FOVEA_KERNELS_H

/// The text of the kernel file `name` (without ".cl"), embedded at build time so that a program needs no file beside
/// it; NULL when there is no such file.
const char *fovea_kernel_source(const char *name);

#endif
