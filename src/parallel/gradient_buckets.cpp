#include "parallel/gradient_buckets.h"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

namespace switchyard {

using torch::Tensor;

bool is_expert_parameter(const std::string& name) { return name.find(".experts.") != std::string::npos; }

namespace {

// The model's tensor as its master is now.
void refresh(TrainedParameter& parameter) {
  if (parameter.is_cast()) parameter.model.copy_(parameter.master);
}

}  // namespace

// Autograd calls it when a parameter's gradient of this backward pass is in its .grad.
class GradientBuckets::Hook : public torch::autograd::PostAccumulateGradHook {
 public:
  Hook(GradientBuckets& buckets, size_t parameter) : buckets_(buckets), parameter_(parameter) {}
  void operator()(const Tensor&) override { buckets_.computed(parameter_); }

 private:
  GradientBuckets& buckets_;
  size_t parameter_;
};

GradientBuckets::GradientBuckets(TrainedParameters parameters, World& world, int64_t bucket_bytes, bool sharded)
    : parameters_(std::move(parameters)), world_(world), sharded_(sharded) {
  // The backward pass reaches the last parameters first.
  std::vector<size_t> shared;
  std::vector<size_t> experts;
  for (size_t i = parameters_.size(); i-- > 0;) {
    (is_expert_parameter(parameters_[i].name) ? experts : shared).push_back(i);
  }
  fill_buckets(world_.all(), shared, bucket_bytes);
  fill_buckets(world_.replicas(), experts, bucket_bytes);
  // In the order in which they get full, which is the same on every rank.
  std::stable_sort(buckets_.begin(), buckets_.end(), [](const Bucket& a, const Bucket& b) {
    return a.segments.back().parameter > b.segments.back().parameter;
  });
  bucket_of_.assign(parameters_.size(), buckets_.size());
  for (size_t b = 0; b < buckets_.size(); ++b) {
    for (const Segment& segment : buckets_[b].segments) bucket_of_[segment.parameter] = b;
    close(buckets_[b]);
  }
  list_parts();
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (bucket_of_[i] == buckets_.size()) continue;
    torch::autograd::impl::set_post_acc_grad_hooks(parameters_[i].model, std::make_unique<Hook>(*this, i));
  }
}

GradientBuckets::~GradientBuckets() {
  for (auto& parameter : parameters_) torch::autograd::impl::set_post_acc_grad_hooks(parameter.model, nullptr);
}

void GradientBuckets::fill_buckets(Group& group, const std::vector<size_t>& members, int64_t bucket_bytes) {
  if (group.size() == 1) return;
  int64_t bytes = bucket_bytes;
  for (const size_t i : members) {
    const Tensor& parameter = parameters_[i].master;
    if (bytes >= bucket_bytes) {
      buckets_.push_back({.group = &group, .segments = {}, .values = {}, .gradients = {}, .part = {}, .pending = {}});
      bytes = 0;
    }
    Bucket& bucket = buckets_.back();
    bucket.segments.push_back({i, bucket.elements, parameter.numel()});
    bucket.elements += parameter.numel();
    bytes += static_cast<int64_t>(parameter.nbytes());
  }
}

// Allocates a bucket and, where sharded, moves its parameters into it.
void GradientBuckets::close(Bucket& bucket) {
  const torch::NoGradGuard no_grad;
  const int64_t ranks = bucket.group->size();
  const int64_t part = (bucket.elements + ranks - 1) / ranks;
  bucket.elements = part * ranks;
  const auto options = parameters_[bucket.segments[0].parameter].master.options().requires_grad(false);
  bucket.gradients = torch::zeros({bucket.elements}, options);
  bucket.part =
      sharded_ ? torch::zeros({part}, options) : bucket.gradients.narrow(0, bucket.group->rank() * part, part);
  if (!sharded_) return;
  bucket.values = torch::zeros({bucket.elements}, options);
  for (const Segment& segment : bucket.segments) {
    Tensor& parameter = parameters_[segment.parameter].master;
    const Tensor place = bucket.values.narrow(0, segment.offset, segment.size).view_as(parameter);
    place.copy_(parameter);
    parameter.set_data(place);
  }
}

std::vector<OwnedPart> GradientBuckets::own_parts(const Bucket& bucket) const {
  const int64_t size = bucket.elements / bucket.group->size();
  const int64_t first = bucket.group->rank() * size;
  std::vector<OwnedPart> parts;
  for (const Segment& segment : bucket.segments) {
    const int64_t begin = std::max(first, segment.offset) - segment.offset;
    const int64_t end = std::min(first + size, segment.offset + segment.size) - segment.offset;
    if (begin < end) parts.push_back({segment.parameter, begin, end});
  }
  return parts;
}

void GradientBuckets::list_parts() {
  std::vector<OwnedPart> whole;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const OwnedPart part{i, 0, parameters_[i].master.numel()};
    whole.push_back(part);
    if (bucket_of_[i] == buckets_.size()) owned_.push_back(part);
  }
  for (const Bucket& bucket : buckets_) {
    for (const OwnedPart& part : own_parts(bucket)) owned_.push_back(part);
  }
  std::sort(owned_.begin(), owned_.end(),
            [](const OwnedPart& a, const OwnedPart& b) { return a.parameter < b.parameter; });
  parts_ = sharded_ ? owned_ : whole;
  for (const OwnedPart& part : parts_) {
    const TrainedParameter& parameter = parameters_[part.parameter];
    const Tensor& master = parameter.master;
    const bool all = part.end - part.begin == master.numel();
    optimizer_parameters_.emplace_back(
        parameter.name, all ? master : master.detach().view(-1).narrow(0, part.begin, part.end - part.begin));
    decayed_.push_back(is_decayed(parameter.name, master));
    const bool gathered = sharded_ && bucket_of_[part.parameter] < buckets_.size();
    copies_.push_back(parameter.is_cast() && !gathered ? parameter.model.detach() : Tensor());
  }
}

void GradientBuckets::arm() {
  armed_ = !buckets_.empty();
  next_ = 0;
  for (Bucket& bucket : buckets_) bucket.missing = bucket.segments.size();
}

void GradientBuckets::computed(size_t parameter) {
  if (!armed_) return;
  --buckets_[bucket_of_[parameter]].missing;
  // In order: every rank must start the same collective next.
  while (next_ < buckets_.size() && buckets_[next_].missing == 0) launch(buckets_[next_++]);
}

// Moves the gradient of this backward pass from the model's tensor to the master's, and adds it there to what earlier
// micro-batches left. `as_it_is`: in the type that it has, where nothing is there yet.
void GradientBuckets::hand_over(TrainedParameter& parameter, bool as_it_is) {
  if (!parameter.is_cast() || !parameter.model.grad().defined()) return;
  Tensor& sum = parameter.master.mutable_grad();
  Tensor& gradient = parameter.model.mutable_grad();
  if (sum.defined()) {
    sum.add_(gradient);
  } else {
    sum = as_it_is ? gradient : gradient.to(parameter.master.scalar_type());
  }
  gradient = Tensor();
}

void GradientBuckets::accumulate() {
  const torch::NoGradGuard no_grad;
  for (TrainedParameter& parameter : parameters_) hand_over(parameter, /*as_it_is=*/false);
}

void GradientBuckets::launch(Bucket& bucket) {
  const torch::NoGradGuard no_grad;
  for (const Segment& segment : bucket.segments) {
    const Tensor place = bucket.gradients.narrow(0, segment.offset, segment.size);
    TrainedParameter& parameter = parameters_[segment.parameter];
    hand_over(parameter, /*as_it_is=*/true);
    const Tensor& gradient = parameter.master.grad();
    if (gradient.defined()) {
      place.copy_(gradient.reshape(-1));
    } else {
      place.zero_();
    }
  }
  bucket.pending = sharded_ ? bucket.group->reduce_scatter(bucket.part, bucket.gradients)
                            : bucket.group->all_reduce(bucket.gradients);
}

// The sums replace what this rank alone had computed. A parameter without a gradient here has none anywhere: which
// parameters take part follows from the configuration.
void GradientBuckets::hand_out_whole(const Bucket& bucket) {
  for (const Segment& segment : bucket.segments) {
    Tensor& master = parameters_[segment.parameter].master;
    if (!master.grad().defined()) continue;
    master.mutable_grad() = bucket.gradients.narrow(0, segment.offset, segment.size).view_as(master);
  }
}

void GradientBuckets::hand_out_parts() {
  std::vector<bool> computed;
  for (TrainedParameter& parameter : parameters_) {
    const bool in_bucket = bucket_of_[computed.size()] < buckets_.size();
    computed.push_back(in_bucket && parameter.master.grad().defined());
    if (in_bucket) parameter.master.mutable_grad() = Tensor();
  }
  for (size_t i = 0; i < parts_.size(); ++i) {
    const OwnedPart& part = parts_[i];
    if (!computed[part.parameter]) continue;
    const Bucket& bucket = buckets_[bucket_of_[part.parameter]];
    const auto segment = std::find_if(bucket.segments.begin(), bucket.segments.end(),
                                      [&](const Segment& s) { return s.parameter == part.parameter; });
    const int64_t begin = segment->offset + part.begin - bucket.group->rank() * bucket.part.numel();
    Tensor& target = optimizer_parameters_[i].second;
    target.mutable_grad() = bucket.part.narrow(0, begin, part.end - part.begin).view_as(target);
  }
}

void GradientBuckets::finish() {
  const torch::NoGradGuard no_grad;
  while (armed_ && next_ < buckets_.size()) launch(buckets_[next_++]);
  armed_ = false;
  for (TrainedParameter& parameter : parameters_) hand_over(parameter, /*as_it_is=*/true);
  for (Bucket& bucket : buckets_) {
    bucket.pending.wait();
    if (!sharded_) hand_out_whole(bucket);
  }
  if (sharded_) hand_out_parts();
}

std::vector<Tensor> GradientBuckets::owned_gradients() const {
  std::vector<Tensor> gradients;
  for (size_t i = 0; i < owned_.size(); ++i) {
    const OwnedPart& part = owned_[i];
    const Tensor& gradient =
        sharded_ ? optimizer_parameters_[i].second.grad() : parameters_[part.parameter].master.grad();
    if (!gradient.defined()) continue;
    gradients.push_back(sharded_ ? gradient : gradient.reshape(-1).narrow(0, part.begin, part.end - part.begin));
  }
  return gradients;
}

void GradientBuckets::gather_parameters() {
  if (!sharded_) return;
  const torch::NoGradGuard no_grad;
  for (Bucket& bucket : buckets_) {
    const int64_t part = bucket.part.numel();
    bucket.pending =
        bucket.group->all_gather(bucket.values, bucket.values.narrow(0, bucket.group->rank() * part, part));
  }
  for (Bucket& bucket : buckets_) {
    bucket.pending.wait();
    for (const Segment& segment : bucket.segments) refresh(parameters_[segment.parameter]);
  }
}

void GradientBuckets::refresh_model() {
  const torch::NoGradGuard no_grad;
  for (TrainedParameter& parameter : parameters_) refresh(parameter);
}

}  // namespace switchyard
