// Marks functions that nvcc compiles for the host and the device, and every other compiler for the host.
#pragma once

#ifdef __CUDACC__
#define SWITCHYARD_HD __host__ __device__
#else
#define SWITCHYARD_HD
#endif
