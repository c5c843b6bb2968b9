// Random numbers as pure functions of where they are used. Nothing here has state to save: a value is named by
// (seed, what it is for, indices), so any position of any stream is reached at once and a resumed run draws
// exactly what the uninterrupted one would have drawn.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace switchyard {

// What a random stream is for. The numbers go into the hash: append, never renumber.
enum class RandomPurpose : uint64_t {
  kInitialisation = 1,  // parameter values at the start of a run
  kForward = 2,         // dropout, jitter and router noise of one micro-batch
  kDataOrder = 3,       // shuffling of windows and mixing of domains
  kDataSplit = 4,       // training / validation split
  kSampling = 5,        // text generation
  kShuffling = 6,       // permutation tests
};

// SplitMix64's finaliser (Steele, Lea, Flood 2014): a bijection of 64-bit words with good avalanche.
constexpr uint64_t mix_bits(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// One 64-bit word for (seed, purpose, indices). Throws nothing.
constexpr uint64_t random_word(uint64_t seed, RandomPurpose purpose, std::initializer_list<uint64_t> indices) {
  uint64_t word = mix_bits(mix_bits(seed) ^ static_cast<uint64_t>(purpose));
  for (const uint64_t index : indices) {
    word = mix_bits(word ^ mix_bits(index));
  }
  return word;
}

// A keyed permutation of [0, size): a four-round Feistel network over the next even power of two, walked until the
// value falls inside (Black and Rogaway 2002). Constant memory, any position at once.
class RandomPermutation {
 public:
  RandomPermutation(uint64_t key, uint64_t size);

  // Where position `index` goes. index must be below size().
  uint64_t operator()(uint64_t index) const;
  uint64_t size() const { return size_; }

 private:
  uint64_t encrypt(uint64_t value) const;

  uint64_t key_;
  uint64_t size_;
  int half_bits_;
};

}  // namespace switchyard
