// The one declaration of every key: name, meaning, range, and where its value lives. Reading, overriding, dumping, the
// JSON schema and the reference page all walk these descriptions, so a key added to fields.cpp is everywhere.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "config/config.h"

namespace switchyard {

struct Field;
using Fields = std::vector<Field>;

// least <= value <= most
struct IntegerRange {
  int64_t least;
  int64_t most;
};

// Both ends belong to the range unless an `open_` flag says otherwise.
struct RealRange {
  double least;
  double most;
  bool open_least = false;
  bool open_most = false;
};

// Where a number lives. The second and third make its key one that may be left out or null.
template <class T>
using NumberTarget = std::variant<T*, std::optional<T>*, Derived<T>*>;

// The kinds of value. Each points into the Config that the fields were made from, which must outlive them.
struct IntegerValue {
  NumberTarget<int64_t> target;
  IntegerRange range;
};
struct RealValue {
  NumberTarget<double> target;
  RealRange range;
};
struct FlagValue {
  bool* target;
};
enum class TextRule { kAny, kSourceName, kTokenizer, kFolder };
struct TextValue {
  std::string* target;
  TextRule rule;
};
struct ChoiceValue {
  std::vector<std::string> names;
  std::function<std::string()> get;
  std::function<void(size_t)> set;  // by index into names
};
// An integer n >= 1, or a list of 0 and 1.
struct LayerListValue {
  std::vector<int64_t>* target;
};
// Globs; relative ones start at the folder of the file that says them.
struct GlobListValue {
  std::vector<std::string>* target;
};
struct SectionValue {
  Fields fields;
  std::string shorthand;  // not empty: a plain word instead of the map stands for this one key
};
// A section that may be absent, which has a meaning of its own.
struct OptionalSectionValue {
  std::function<bool()> given;
  std::function<void(bool)> set_given;
  std::function<Fields()> fields;  // only while given
};
struct SectionListValue {
  std::function<size_t()> size;
  std::function<void(size_t)> resize;
  std::function<Fields(size_t)> fields;
};

using FieldValue = std::variant<IntegerValue, RealValue, FlagValue, TextValue, ChoiceValue, LayerListValue,
                                GlobListValue, SectionValue, OptionalSectionValue, SectionListValue>;

struct Field {
  std::string key;
  FieldValue value;
  std::string meaning;   // a sentence or two
  std::string unit;      // of a number; may be empty
  std::string fallback;  // what an optional key follows from when it is not given
  bool required = false;
};

// The sections of a configuration and their keys, in the order in which they are documented and dumped.
Fields fields_of(Config& config);

// A Config in which every section and one data source are present, to walk all keys of.
Config config_with_every_section();

// Puts together visitors for std::visit.
template <class... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};
template <class... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;  // clang 14 does not deduce it by itself

}  // namespace switchyard
