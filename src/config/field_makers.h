// Makers of fields, for the files that declare keys.
#pragma once

#include <utility>

#include "config/fields.h"

namespace switchyard {

// The largest sizes are far beyond any machine; they are there so that products of sizes stay inside 64 bits (rules.cpp
// bounds the products themselves).
constexpr int64_t kMostWidth = int64_t{1} << 20;
constexpr int64_t kMostFeedForward = int64_t{1} << 24;
constexpr int64_t kMostLayers = int64_t{1} << 14;
constexpr int64_t kMostHeads = int64_t{1} << 14;
constexpr int64_t kMostExperts = int64_t{1} << 16;
constexpr int64_t kMostVocabulary = int64_t{1} << 24;
constexpr int64_t kMostSequences = int64_t{1} << 24;
constexpr int64_t kMostSteps = 1'000'000'000'000;
constexpr RealRange kCoefficient = {0, 1e6};
constexpr RealRange kPositive = {0, 1e9, true};
constexpr RealRange kBelowOne = {0, 1, false, true};

struct Notes {
  std::string unit{};
  std::string fallback{};
  bool required = false;
};

inline Field make(std::string key, FieldValue value, std::string meaning, Notes notes = {}) {
  return {std::move(key),        std::move(value),          std::move(meaning),
          std::move(notes.unit), std::move(notes.fallback), notes.required};
}

template <class Target>  // of NumberTarget<int64_t>
Field integer(std::string key, Target& target, IntegerRange range, std::string meaning, Notes notes = {}) {
  return make(std::move(key), IntegerValue{&target, range}, std::move(meaning), std::move(notes));
}

template <class Target>  // of NumberTarget<double>
Field real(std::string key, Target& target, RealRange range, std::string meaning, Notes notes = {}) {
  return make(std::move(key), RealValue{&target, range}, std::move(meaning), std::move(notes));
}

inline Field flag(std::string key, bool& target, std::string meaning) {
  return make(std::move(key), FlagValue{&target}, std::move(meaning), {});
}

inline Field text(std::string key, std::string& target, std::string meaning, TextRule rule = TextRule::kAny,
                  Notes notes = {}) {
  return make(std::move(key), TextValue{&target, rule}, std::move(meaning), std::move(notes));
}

template <class Enum>
Field choice(std::string key, Enum& target, const std::vector<std::pair<std::string, Enum>>& words,
             std::string meaning) {
  ChoiceValue value;
  for (const auto& word : words) {
    value.names.push_back(word.first);
  }
  value.get = [&target, words] {
    for (const auto& [name, meant] : words) {
      if (meant == target) return name;
    }
    return std::string();
  };
  value.set = [&target, words](size_t index) { target = words[index].second; };
  return make(std::move(key), std::move(value), std::move(meaning), {});
}

inline Field section(std::string key, Fields fields, std::string meaning, std::string shorthand = {}) {
  return make(std::move(key), SectionValue{std::move(fields), std::move(shorthand)}, std::move(meaning), {});
}

// A section of an optional struct: absent, it has a meaning of its own.
template <class Section>
Field optional_section(std::string key, std::optional<Section>& target, Fields (*fields)(Section&),
                       std::string meaning) {
  OptionalSectionValue value;
  value.given = [&target] { return target.has_value(); };
  value.set_given = [&target](bool given) { given ? void(target = target.value_or(Section{})) : target.reset(); };
  value.fields = [&target, fields] { return fields(*target); };
  return make(std::move(key), std::move(value), std::move(meaning));
}

}  // namespace switchyard
