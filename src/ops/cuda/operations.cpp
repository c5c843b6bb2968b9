#include "ops/cuda/operations.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "ops/cuda/launch.h"
#include "ops/cuda/order_kernels.h"
#include "ops/cuda/row_kernels.h"
#include "ops/cuda/top_k_kernels.h"
#include "ops/fused.h"

namespace switchyard::cuda {

using torch::Tensor;

namespace {

// Calls start(stream) with the current stream of `device` (a cudaStream_t), that device being the current one.
template <class Start>
void on_device(const torch::Device& device, const Start& start) {
  const c10::DeviceGuard guard(device);
  const c10::impl::VirtualGuardImpl devices(device.type());
  const char* error = start(devices.getStreamNativeHandle(devices.getStream(device)));
  TORCH_CHECK(error == nullptr, "a kernel could not be started on ", device, ": ", error);
}

// f(warp, i) for i in [0, count), where `like` is.
template <class F>
void run_warps(const Tensor& like, int64_t count, const F& f) {
  if (!like.is_cpu()) return on_device(like.device(), [&](void* stream) { return launch_warps(f, count, stream); });
  for (int64_t i = 0; i < count; ++i) f(HostWarp{}, i);
}

// f(i) for i in [0, count), where `like` is.
template <class F>
void run_threads(const Tensor& like, int64_t count, const F& f) {
  if (!like.is_cpu()) return on_device(like.device(), [&](void* stream) { return launch_threads(f, count, stream); });
  for (int64_t i = 0; i < count; ++i) f(i);
}

// Whether rows of x [., D] can be moved in pieces of `bytes`.
bool moves_in(const Tensor& x, size_t bytes) {
  return reinterpret_cast<uintptr_t>(x.const_data_ptr()) % bytes == 0 &&
         static_cast<size_t>(x.size(1)) * x.element_size() % bytes == 0;
}

template <class Unit>
void gather(const Tensor& x, const Tensor& choice_of_row, const Tensor& rows, int64_t top_k) {
  const auto bytes = static_cast<int64_t>(x.element_size());
  run_warps(x, rows.size(0),
            GatherRows<Unit>{input<Unit>(x), input<int64_t>(choice_of_row), output<Unit>(rows), top_k,
                             x.size(1) * bytes / static_cast<int64_t>(sizeof(Unit))});
}

// Calls f(T{}, number of elements that a lane moves at once): 16 bytes where all of `tensors` allow it, else one.
template <class F>
void with_pack(std::initializer_list<Tensor> tensors, const F& f) {
  const bool whole = std::all_of(tensors.begin(), tensors.end(), [](const Tensor& x) { return moves_in(x, 16); });
  with_element_type(*tensors.begin(), [&]<class T>(T) {
    if (whole) {
      f(T{}, std::integral_constant<int, 16 / sizeof(T)>{});
    } else {
      f(T{}, std::integral_constant<int, 1>{});
    }
  });
}

}  // namespace

ExpertOrder order_by_expert(const Tensor& expert_ids, int64_t num_experts, const Tensor& kept_any) {
  const Tensor ids = expert_ids.contiguous();
  const Tensor kept = kept_any.defined() ? kept_any.contiguous() : kept_any;
  const Choices choices = {input<int64_t>(ids), kept.defined() ? kept.const_data_ptr<bool>() : nullptr, ids.numel(),
                           num_experts};
  const int64_t tiles = choices.num_tiles();
  const int64_t buckets = choices.num_buckets();
  const Tensor counts = torch::empty({tiles, buckets}, ids.options());
  const Tensor begins = torch::empty({buckets}, ids.options());  // at first totals
  const Tensor total = torch::empty({1}, ids.options());
  ExpertOrder order;
  order.num_rows = ids.numel();
  order.row_of_choice = torch::empty_like(ids);
  order.choice_of_row = torch::empty({order.num_rows}, ids.options());
  run_threads(ids, tiles * buckets, CountTiles{choices, output<int64_t>(counts)});
  run_warps(ids, buckets, ScanColumns{output<int64_t>(counts), output<int64_t>(begins), tiles, buckets});
  run_warps(ids, 1, ScanColumns{output<int64_t>(begins), output<int64_t>(total), buckets, 1});
  run_threads(ids, tiles * buckets,
              PlaceChoices{choices, input<int64_t>(counts), input<int64_t>(begins),
                           output<int64_t>(order.row_of_choice), output<int64_t>(order.choice_of_row)});
  order.offsets = begins.narrow(0, 1, num_experts);  // one expert's end is where the next bucket begins
  return order;
}

Tensor gather_rows(const Tensor& x_any, const Tensor& choice_of_row, int64_t top_k) {
  const Tensor x = x_any.contiguous();
  const Tensor rows = torch::empty({choice_of_row.size(0), x.size(1)}, x.options());
  if (moves_in(x, sizeof(Chunk))) {
    gather<Chunk>(x, choice_of_row, rows, top_k);
  } else {
    switch (x.element_size()) {
      case 2:
        gather<uint16_t>(x, choice_of_row, rows, top_k);
        break;
      case 4:
        gather<uint32_t>(x, choice_of_row, rows, top_k);
        break;
      case 8:
        gather<uint64_t>(x, choice_of_row, rows, top_k);
        break;
      default:
        TORCH_CHECK_TYPE(false, "gather_rows: no kernel for ", x.scalar_type());
    }
  }
  return rows;
}

Tensor sum_rows(const Tensor& rows, const Tensor& row_of_choice, const Tensor& weights) {
  const int64_t top_k = row_of_choice.size(1);
  const int64_t dim = rows.size(1);
  const Tensor out = torch::empty({row_of_choice.size(0), dim}, rows.options());
  with_pack({rows, out}, [&]<class T, class Size>(T, Size) {
    run_warps(rows, out.size(0),
              SumRows<T, Size::value>{input<T>(rows), input<int64_t>(row_of_choice),
                                      weights.defined() ? input<kernels::Acc<T>>(weights) : nullptr, output<T>(out),
                                      top_k, dim});
  });
  return out;
}

std::array<Tensor, 2> sum_rows_backward(const Tensor& rows, const Tensor& weights, const Tensor& choice_of_row,
                                        const Tensor& dy) {
  const Tensor d_rows = torch::empty_like(rows);
  const Tensor d_weights = torch::zeros_like(weights);  // a dropped choice has no row
  with_pack({rows, dy, d_rows}, [&]<class T, class Size>(T, Size) {
    using A = kernels::Acc<T>;
    run_warps(
        rows, rows.size(0),
        SumRowsBackward<T, Size::value>{input<T>(rows), input<int64_t>(choice_of_row), input<A>(weights), input<T>(dy),
                                        output<T>(d_rows), output<A>(d_weights), weights.size(1), rows.size(1)});
  });
  return {d_rows, d_weights};
}

bool takes_top_k(const Tensor& scores) {
  const auto type = scores.scalar_type();
  return (type == torch::kFloat32 || type == torch::kFloat64) && scores.size(1) <= kMostExperts;
}

Chosen top_k(const Tensor& scores_any, int64_t top_k, bool softmax) {
  const Tensor scores = scores_any.contiguous();
  const auto integers = scores.options().dtype(torch::kInt64);
  Chosen chosen = {.ids = torch::empty({scores.size(0), top_k}, integers), .probabilities = {}, .counts = {}};
  if (softmax) {
    chosen.probabilities = torch::empty_like(scores);
    chosen.counts = torch::zeros({scores.size(1)}, integers);
  }
  AT_DISPATCH_FLOATING_TYPES(scores.scalar_type(), "top_k", [&] {
    run_warps(scores, scores.size(0),
              SoftmaxTopK<scalar_t>{input<scalar_t>(scores), softmax ? output<scalar_t>(chosen.probabilities) : nullptr,
                                    output<int64_t>(chosen.ids), softmax ? output<int64_t>(chosen.counts) : nullptr,
                                    scores.size(1), top_k});
  });
  return chosen;
}

}  // namespace switchyard::cuda
