// How much one label tells about another: entropies and mutual information of tables of counts, and what chance alone
// would give. Pure functions of numbers on the host. Legend: R rows, C columns, U units.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace switchyard {

using CountTable = std::vector<std::vector<double>>;  // [R][C], not negative

// -sum p log p over the shares of `counts`, in nats; 0 where all are zero.
double entropy_in_nats(std::span<const double> counts);

// I(row; column) = sum p_rc log(p_rc / (p_r p_c)) in nats (Cover and Thomas 2006, eq. 2.28), 0 for an empty table.
double mutual_information(const CountTable& counts);

// I / H(row): the share of what is unknown about the row that the column tells (Theil's uncertainty coefficient, 1970):
// 0 nothing, 1 all. 0 where there is one row only.
double explained_share(const CountTable& counts);

// Things with a label each, and what each of them chose: unit u chose choices[begin[u] .. begin[u + 1]).
struct LabelledChoices {
  std::vector<int32_t> labels;   // [U], in [0, num_labels)
  std::vector<int64_t> begin;    // [U + 1]
  std::vector<int32_t> choices;  // in [0, num_choices)
  int64_t num_labels = 0;
  int64_t num_choices = 0;
};
CountTable count_choices_by_label(const LabelledChoices& units);

// The same table under labels shuffled over the units, many times: what unrelated labels would give. Units must be what
// is independent: neighbouring tokens of one text are not.
struct PermutationBaseline {
  double mean = 0;     // of the mutual information, nats
  double highest = 0;  // of all shufflings
  double p_value = 1;  // (1 + shufflings that reach the observed value) / (1 + shufflings) (Phipson and Smyth 2010)
};
// Deterministic in `seed`. `information` is what is asked of the shuffled labels (and of `labels` themselves).
using LabelStatistic = std::function<double(const std::vector<int32_t>& labels)>;
PermutationBaseline permutation_baseline(const std::vector<int32_t>& labels, const LabelStatistic& information,
                                         int64_t shufflings, uint64_t seed);
// Of mutual_information(count_choices_by_label(units)).
PermutationBaseline permutation_baseline(const LabelledChoices& units, int64_t shufflings, uint64_t seed);

// I(label; choice | kind) in nats, the mean over kinds, by their choices, of the information within each (Cover and
// Thomas 2006, eq. 2.60): what the label tells beyond what the kind does. Units as above, each made of parts: unit u of
// parts [part_begin[u], part_begin[u + 1]), part p of kind kinds[p] chose choices[begin[p] .. begin[p + 1]).
struct KindedChoices {
  std::vector<int64_t> part_begin;  // [U + 1]
  std::vector<int32_t> kinds;       // [parts], in [0, num_kinds)
  std::vector<int64_t> begin;       // [parts + 1]
  std::vector<int32_t> choices;     // in [0, num_choices)
  int64_t num_kinds = 0;
  int64_t num_labels = 0;
  int64_t num_choices = 0;
};
double conditional_information(const KindedChoices& units, const std::vector<int32_t>& labels);
// H(label | kind) in nats, over choices.
double conditional_label_entropy(const KindedChoices& units, const std::vector<int32_t>& labels);

}  // namespace switchyard
