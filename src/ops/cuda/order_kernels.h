// A stable counting sort of choices by expert, in three kernels without atomics: CountTiles, then ScanColumns over the
// tiles of each bucket and again over the buckets, then PlaceChoices. A bucket is an expert; what is dropped is in one
// more, the last. Its threads need nothing of each other, and every row is written by one of them.
// Legend: N choices, E experts, B = E + 1 buckets, S tiles of choices.
#pragma once

#include <cassert>

#include "ops/cuda/warp.h"

namespace switchyard::cuda {

// Choices that one thread looks through.
inline constexpr int64_t kTileChoices = 512;

struct Choices {
  const int64_t* ids;  // [N] in [0, E)
  const bool* kept;    // [N], or null: all are
  int64_t count;       // N
  int64_t num_experts;

  SWITCHYARD_HD int64_t num_buckets() const { return num_experts + 1; }
  SWITCHYARD_HD int64_t num_tiles() const { return (count + kTileChoices - 1) / kTileChoices; }
  SWITCHYARD_HD int64_t tile_end(int64_t tile) const {
    const int64_t end = (tile + 1) * kTileChoices;
    return end < count ? end : count;
  }
  SWITCHYARD_HD int64_t bucket(int64_t choice) const {
    return kept != nullptr && !kept[choice] ? num_experts : ids[choice];
  }
};

// counts[s, b] = how many choices of tile s are in bucket b. Runs over S * B threads.
struct CountTiles {
  Choices choices;
  int64_t* counts;  // [S, B]

  SWITCHYARD_HD void operator()(int64_t thread) const {
    const int64_t tile = thread / choices.num_buckets();
    const int64_t own = thread % choices.num_buckets();
    int64_t found = 0;
    for (int64_t i = tile * kTileChoices; i < choices.tile_end(tile); ++i) {
      // The host can't be asked without waiting for the device: on a device this ends the program with a message.
      assert(choices.ids[i] >= 0 && choices.ids[i] < choices.num_experts && "order_by_expert: no such expert");
      found += choices.bucket(i) == own ? 1 : 0;
    }
    counts[thread] = found;
  }
};

// Each entry of a column becomes the sum of those above it, in place; totals gets the sum of each column. One warp a
// column: lanes take runs of entries.
struct ScanColumns {
  int64_t* values;  // [count, stride], of which a column is values[column + i * stride]
  int64_t* totals;  // [columns]
  int64_t count;
  int64_t stride;

  template <class Warp>
  SWITCHYARD_HD void operator()(const Warp& warp, int64_t column) const {
    int64_t sums[Warp::kHeld];
    warp.each([&](int lane, int held) {
      sums[held] = 0;
      for (int64_t i = begin(lane); i < begin(lane + 1); ++i) sums[held] += values[column + i * stride];
    });
    const int64_t total = warp.exclusive_sum(sums);
    warp.each([&](int lane, int held) {
      for (int64_t i = begin(lane); i < begin(lane + 1); ++i) {
        const int64_t own = values[column + i * stride];
        values[column + i * stride] = sums[held];
        sums[held] += own;
      }
      if (lane == 0) totals[column] = total;
    });
  }

 private:
  SWITCHYARD_HD int64_t begin(int64_t lane) const {
    const int64_t at = lane * ((count + kLanes - 1) / kLanes);
    return at < count ? at : count;
  }
};

// Gives every choice its row: those of a bucket follow each other in their order. Runs over S * B threads.
struct PlaceChoices {
  Choices choices;
  const int64_t* tile_begins;    // [S, B] how many choices of the bucket earlier tiles have
  const int64_t* bucket_begins;  // [B] first row
  int64_t* row_of_choice;        // [N], -1 where the choice is dropped
  int64_t* choice_of_row;        // [N], -1 for the rows of dropped choices, which come last

  SWITCHYARD_HD void operator()(int64_t thread) const {
    const int64_t tile = thread / choices.num_buckets();
    const int64_t own = thread % choices.num_buckets();
    const bool dropped = own == choices.num_experts;
    int64_t row = bucket_begins[own] + tile_begins[thread];
    for (int64_t i = tile * kTileChoices; i < choices.tile_end(tile); ++i) {
      if (choices.bucket(i) != own) continue;
      row_of_choice[i] = dropped ? -1 : row;
      choice_of_row[row] = dropped ? -1 : i;
      ++row;
    }
  }
};

}  // namespace switchyard::cuda
