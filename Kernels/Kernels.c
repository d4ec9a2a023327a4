#include "Kernels.h"
const char fovea_x[] = {
#embed "x.cl"
, 0};
