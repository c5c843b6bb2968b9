// What the program uses of LibTorch: tensors and their operations, modules. torch/torch.h would bring data loaders,
// optimizers, serialisation and every ready-made layer as well. A precompiled header does not help there: what inline
// functions of a header call is instantiated again by every file that includes it. So autograd functions
// (custom_function.h, two seconds) stand with the files that define one.
#pragma once

#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>
#include <torch/utils.h>
