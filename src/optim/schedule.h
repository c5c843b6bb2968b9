// Learning-rate schedules as functions of the step.
#pragma once

#include <cstdint>

#include "config/config.h"

namespace switchyard {

// The learning rate of step `step` (the first is 1): linear from 0 over warmup_steps up to optimizer.lr, then
//   cosine    half a cosine down to min_lr at decay_steps, then constant   (Loshchilov and Hutter 2017)
//   linear    a straight line down to min_lr at decay_steps, then constant
//   constant  optimizer.lr
//   wsd       optimizer.lr, then a straight line to min_lr over the last decay_steps before max_steps (Hu et al. 2024)
// The step at which the decay ends has min_lr itself: with 0, it changes no weight.
double learning_rate(const Config& config, int64_t step);

}  // namespace switchyard
