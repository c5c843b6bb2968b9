// Gradients summed over ranks in flat buckets, while the backward pass still computes others; and who owns which part
// of every parameter. Legend: R ranks that hold the same parameter.
#pragma once

#include <vector>

#include "ops/torch.h"
#include "optim/adamw.h"
#include "optim/master_weights.h"
#include "parallel/world.h"

namespace switchyard {

// Elements [begin, end) of a parameter, row-major.
struct OwnedPart {
  size_t parameter = 0;  // index
  int64_t begin = 0;
  int64_t end = 0;
};

// Whether a parameter is of the experts, of which each rank of an expert-parallel group holds its own.
bool is_expert_parameter(const std::string& name);

class GradientBuckets {
 public:
  // `parameters` as the model names them; the world must outlive this. Those of experts are reduced over the ranks that
  // hold the same experts, all others over all. Buckets hold about bucket_bytes, in the order in which the backward
  // pass reaches parameters. `sharded`: every rank gets the sum of its own part only, and the master weights become
  // views of the buckets, so that gather_parameters() can bring all parts together (ZeRO stage 1: Rajbhandari et al.
  // 2020). Parameters that only this rank holds stay as they are.
  GradientBuckets(TrainedParameters parameters, World& world, int64_t bucket_bytes, bool sharded);
  ~GradientBuckets();
  GradientBuckets(const GradientBuckets&) = delete;
  GradientBuckets& operator=(const GradientBuckets&) = delete;

  // Call before the backward pass that completes the gradients: each bucket leaves as soon as it is full.
  // Collectives, in that backward pass and in finish(): an all-reduce or reduce-scatter a bucket.
  void arm();
  // After the backward pass of every other micro-batch: adds its gradients to those of the master weights, in their
  // type.
  void accumulate();
  // After the last backward pass: waits for all sums and leaves them in the gradients of optimizer_parameters(). A
  // gradient that is of one micro-batch and of this rank alone keeps the type that it was computed in.
  void finish();
  // After an update of the owned parts. Collectives where sharded: an all-gather a bucket.
  void gather_parameters();
  // After the master weights have been set to something else: the model gets them.
  void refresh_model();

  const TrainedParameters& parameters() const { return parameters_; }
  bool sharded() const { return sharded_; }
  // Parts that cover every parameter exactly once over all ranks that hold it.
  const std::vector<OwnedPart>& owned() const { return owned_; }
  // The summed gradients of the owned parts; those that were not computed are left out.
  std::vector<torch::Tensor> owned_gradients() const;

  // What an optimizer of this rank updates: whole parameters, or the owned parts where sharded. In the second case
  // parts()[i] says which part entry i is.
  const NamedTensors& optimizer_parameters() const { return optimizer_parameters_; }
  const std::vector<bool>& decayed() const { return decayed_; }
  // What AdamW's `copies` are: the model's own, where an update of this rank is whole; gather_parameters() does the
  // others.
  const std::vector<torch::Tensor>& copies() const { return copies_; }
  const std::vector<OwnedPart>& parts() const { return parts_; }

 private:
  struct Segment {
    size_t parameter;
    int64_t offset;  // in the flat bucket
    int64_t size;
  };
  struct Bucket {
    Group* group;
    std::vector<Segment> segments;
    int64_t elements = 0;     // with padding, R times one rank's part
    torch::Tensor values;     // [elements] the parameters, where sharded
    torch::Tensor gradients;  // [elements]
    torch::Tensor part;       // [elements / R] this rank's sums: a view of `gradients` unless sharded
    size_t missing = 0;       // gradients that this backward pass still has to compute
    Pending pending;
  };
  class Hook;

  void fill_buckets(Group& group, const std::vector<size_t>& members, int64_t bucket_bytes);
  void close(Bucket& bucket);
  void list_parts();
  void computed(size_t parameter);
  void hand_over(TrainedParameter& parameter, bool as_it_is);
  void launch(Bucket& bucket);
  void hand_out_whole(const Bucket& bucket);
  void hand_out_parts();
  std::vector<OwnedPart> own_parts(const Bucket& bucket) const;

  TrainedParameters parameters_;
  World& world_;
  bool sharded_;
  bool armed_ = false;
  std::vector<Bucket> buckets_;
  size_t next_ = 0;                // the first bucket that has not left
  std::vector<size_t> bucket_of_;  // by parameter; buckets_.size() where it is in none
  std::vector<OwnedPart> owned_;
  NamedTensors optimizer_parameters_;
  std::vector<bool> decayed_;
  std::vector<torch::Tensor> copies_;
  std::vector<OwnedPart> parts_;
};

}  // namespace switchyard
