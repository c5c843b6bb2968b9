// A key that follows from others unless it is given.
#pragma once

#include <optional>

namespace switchyard {

// Empty until it is given or resolve() fills it. What was filled stays open: a dump leaves it open, so that it follows
// again when the others change. Equal are two of the same value, wherever they have it from.
template <class T>
class Derived {
 public:
  Derived() = default;
  Derived(T value) : value_(value), given_(true) {}  // NOLINT: stands where a number can, as std::optional does
  Derived(std::nullopt_t) {}                         // NOLINT

  // Takes the value unless one is given.
  void follow(T value) { value_ = given_ ? value_ : value; }

  bool given() const { return given_; }
  explicit operator bool() const { return value_.has_value(); }
  const T& operator*() const { return *value_; }
  const T& value() const { return value_.value(); }  // throws std::bad_optional_access where it is empty
  T value_or(T otherwise) const { return value_.value_or(otherwise); }

  bool operator==(const Derived& other) const { return value_ == other.value_; }

 private:
  std::optional<T> value_;
  bool given_ = false;
};

}  // namespace switchyard
