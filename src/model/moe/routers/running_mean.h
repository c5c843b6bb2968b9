// What routers keep of their training batches for evaluation, where the other tokens of a batch must not matter.
#pragma once

#include "ops/torch.h"

namespace switchyard {

// The exponential mean of a vector over the steps, free of its start: after n values it is
// sum_s m^(n - s) v_s / sum_s m^(n - s) with the momentum m (the correction of Kingma and Ba 2015, section 3), so the
// first value alone sets it. Both sums are buffers, which checkpoints hold.
class RunningMean : public torch::nn::Module {
 public:
  RunningMean(int64_t size, double momentum);

  // value [size]; undefined: nothing was observed, nothing changes. Collectives: none.
  void add(const torch::Tensor& value);
  // [size], zeros before the first value.
  torch::Tensor value() const;
  // [1] bool, whether there has been a value.
  torch::Tensor known() const;

 private:
  double momentum_;
  torch::Tensor sum_;     // [size]
  torch::Tensor weight_;  // [1]
};

}  // namespace switchyard
