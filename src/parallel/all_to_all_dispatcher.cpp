#include "parallel/all_to_all_dispatcher.h"

#include <torch/csrc/autograd/custom_function.h>

#include "base/errors.h"
#include "base/memory.h"
#include "base/text.h"
#include "ops/permutation.h"

namespace switchyard {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// One exchange of rows and, in the backward pass, of their gradients the other way.
struct Exchange : torch::CustomClassHolder {
  Group* group = nullptr;
  std::vector<int64_t> sent;      // rows to each rank
  std::vector<int64_t> received;  // rows from each rank
  Pending pending;                // of the pass under way
  Tensor gradient;                // of the sent rows, being received
};
using ExchangePointer = c10::intrusive_ptr<Exchange>;

int64_t sum_of(const std::vector<int64_t>& values) { return std::accumulate(values.begin(), values.end(), int64_t{0}); }

ExchangePointer exchange_of(AutogradContext* context) {
  return c10::static_intrusive_pointer_cast<Exchange>(context->saved_data["exchange"].toCapsule());
}

// Starts the exchange; what it returns is not to be read yet.
struct StartExchange : torch::autograd::Function<StartExchange> {
  static Tensor forward(AutogradContext* context, const Tensor& rows, const ExchangePointer& exchange) {
    context->saved_data["exchange"] = c10::IValue::make_capsule(exchange);
    const Tensor out = torch::empty({sum_of(exchange->received), rows.size(1)}, rows.options());
    exchange->pending = exchange->group->all_to_all(out, rows.contiguous(), exchange->received, exchange->sent);
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list&) {
    const ExchangePointer exchange = exchange_of(context);
    exchange->pending.wait();
    return {std::exchange(exchange->gradient, {}), Tensor()};
  }
};

// Ends it: the received rows. Its backward starts the way back of their gradients.
struct FinishExchange : torch::autograd::Function<FinishExchange> {
  static Tensor forward(AutogradContext* context, const Tensor& rows, const ExchangePointer& exchange) {
    context->saved_data["exchange"] = c10::IValue::make_capsule(exchange);
    exchange->pending.wait();
    return rows.view_as(rows);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const ExchangePointer exchange = exchange_of(context);
    const Tensor gradient = gradients[0].contiguous();
    exchange->gradient = torch::empty({sum_of(exchange->sent), gradient.size(1)}, gradient.options());
    exchange->pending = exchange->group->all_to_all(exchange->gradient, gradient, exchange->sent, exchange->received);
    return {gradient, Tensor()};
  }
};

Tensor exchange_rows(Group& group, const Tensor& rows, std::vector<int64_t> sent, std::vector<int64_t> received,
                     const Meanwhile& meanwhile) {
  const auto exchange = c10::make_intrusive<Exchange>();
  exchange->group = &group;
  exchange->sent = std::move(sent);
  exchange->received = std::move(received);
  const Tensor out = StartExchange::apply(rows, exchange);
  if (meanwhile) meanwhile();
  return FinishExchange::apply(out, exchange);
}

std::vector<int64_t> to_vector(const Tensor& values) {
  const int64_t* begin = values.const_data_ptr<int64_t>();
  return {begin, begin + values.numel()};
}

}  // namespace

void require_room(int64_t arriving, int64_t expected, double row_bytes, double free_bytes) {
  const double needed = static_cast<double>(arriving) * row_bytes;
  if (needed <= free_bytes) return;
  throw DistributedError("this rank's experts would get " + with_thousands(arriving) + " rows of one layer where " +
                         with_thousands(expected) + " are its fair share: they take about " + as_bytes_text(needed) +
                         ", and " + as_bytes_text(free_bytes) +
                         " are free. Limit the rows with moe.capacity_factor, balance the experts more "
                         "(moe.aux_loss_coeff), or lower training.micro_batch_size");
}

Tensor AllToAllDispatcher::compute(const Tensor& rows, const Tensor& offsets, const ExpertFunction& experts,
                                   const Meanwhile& meanwhile) {
  const int64_t ranks = group_.size();
  const int64_t local_experts = offsets.size(0) / ranks;
  Tensor counts = offsets.diff(1, 0, torch::zeros({1}, offsets.options())).view({ranks, local_experts});
  Tensor arriving = torch::empty_like(counts);  // from each rank, for each expert here
  group_.all_to_all(arriving, counts, std::vector<int64_t>(ranks, 1), std::vector<int64_t>(ranks, 1)).wait();
  const Tensor host = torch::stack({counts.sum(1), arriving.sum(1)}).cpu();
  const std::vector<int64_t> sent = to_vector(host[0]);
  const std::vector<int64_t> received = to_vector(host[1]);

  // A look at the free memory costs some microseconds: only where the routing is uneven.
  const int64_t crowd = sum_of(received);
  if (rows.device().is_cpu() && crowd > 2 * sum_of(sent)) {
    require_room(crowd, sum_of(sent), row_bytes_, available_memory_bytes());
  }

  // Where choices were dropped, rows of no expert may follow (on CUDA); they stay here.
  const int64_t travelling = sum_of(sent);
  const Tensor arrived = exchange_rows(group_, rows.narrow(0, 0, travelling), sent, received, meanwhile);
  const Tensor expert = torch::arange(local_experts, offsets.options()).repeat({ranks});
  const Tensor ids = torch::repeat_interleave(expert, arriving.flatten(), 0, sum_of(received)).unsqueeze(1);
  const ExpertOrder order = order_by_expert(ids, local_experts);
  const Tensor computed = experts(permute_tokens(arrived, order), order.offsets);
  const Tensor in_order = combine_tokens(computed, torch::ones(ids.sizes(), computed.options()), order);
  const Tensor back = exchange_rows(group_, in_order, received, sent, {});
  return travelling == rows.size(0) ? back : torch::constant_pad_nd(back, {0, 0, 0, rows.size(0) - travelling});
}

}  // namespace switchyard
