// How the fused operations cut their work: for themselves, and for those who estimate what they hold.
#pragma once

#include <cstdint>

namespace switchyard {

// Up to this many positions a block of queries and its scores fit into a core's cache, and attention is a fused loop;
// beyond, ATen's own blocks take over.
inline constexpr int64_t kLongestFusedAttention = 2048;

// Queries of a block whose scores are whole tensors: attention with a soft cap or a window.
inline constexpr int64_t kLimitedAttentionRows = 128;

// Rows that go through all products of an expert together: their hidden values stay in a core's cache, and experts of
// uneven load still share the cores evenly.
inline constexpr int64_t kExpertPieceRows = 256;

// Bytes of the gradients inside an expert's feed-forward that are computed before those of its weights, about: for
// consecutive experts with few rows together, for one with many alone.
inline constexpr int64_t kExpertGroupBytes = 4 << 20;

// Logits of one chunk of the cross-entropy: small enough to stay near the cache, large enough for the matrix product to
// run at full speed; and the fewest tokens of a chunk.
inline constexpr int64_t kLogitsChunkElements = 4 << 20;
inline constexpr int64_t kLogitsChunkRows = 64;
// On a device: enough to fill it.
inline constexpr int64_t kLogitsChunkElementsOnDevice = 64 << 20;

}  // namespace switchyard
