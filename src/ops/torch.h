// What the program uses of LibTorch: tensors and their operations, autograd functions, modules. torch/torch.h would
// bring data loaders, optimizers, serialisation and every ready-made layer as well, which costs each file that includes
// it some three seconds even with a precompiled header.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>
#include <torch/utils.h>
