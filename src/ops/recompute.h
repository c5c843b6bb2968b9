// Activation recomputation (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"; also called activation
// checkpointing): what autograd would keep from the forward to the backward pass is computed again instead.
#pragma once

#include <functional>

#include "ops/torch.h"

namespace switchyard {

// A part of the forward pass, as a function of its input.
using ForwardPart = std::function<torch::Tensor(const torch::Tensor& x)>;

// now(x), in the graph that it always makes; but of the values that its operations save for their backward pass none is
// kept. The first one that the backward pass asks for has again(x) run, with ATen's default generators set to what they
// were before now(x) and put back afterwards; that saves all of them again, and each goes once it was used. So whatever
// now() hands out besides its result stays differentiable, and gradients are the same bits and arrive as they would.
//
// again() must run the same operations as now() with the same results, may not change state, and is called with
// gradients on and outside of the graph: it has to own what it refers to, or that must outlive the backward pass. Where
// it saves other values, the backward pass throws c10::Error. Without gradients, and within another such part, this is
// now(x) and no more. Collectives: those of both.
torch::Tensor recomputed(const torch::Tensor& x, const ForwardPart& now, ForwardPart again);
inline torch::Tensor recomputed(const torch::Tensor& x, const ForwardPart& part) { return recomputed(x, part, part); }

}  // namespace switchyard
