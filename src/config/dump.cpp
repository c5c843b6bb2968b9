#include <algorithm>

#include "config/load.h"
#include "config/scalars.h"

namespace switchyard {
namespace {

class Dumper {
 public:
  explicit Dumper(std::vector<std::string> spelt_out) : spelt_out_(std::move(spelt_out)) {}

  void write_config(const Config& config) {
    Config copy = config;  // fields point into a mutable Config
    for (const Field& section : fields_of(copy)) {
      leaves_open_ = std::find(spelt_out_.begin(), spelt_out_.end(), section.key) == spelt_out_.end();
      write_section({section}, "");
    }
  }
  std::string take() { return std::move(out_); }

 private:
  void write_section(const Fields& fields, const std::string& indent) {
    for (const Field& field : fields) {
      out_ += indent + field.key + ":";
      std::visit([&](const auto& value) { write(value, indent + "  "); }, field.value);
      if (follows(field.value)) {
        out_.insert(out_.size() - 1, "  # " + value_text(field.value) + ": " + field.fallback);
      }
    }
  }

  void write(const SectionValue& value, const std::string& indent) {
    out_ += "\n";
    write_section(value.fields, indent);
  }
  void write(const OptionalSectionValue& value, const std::string& indent) {
    if (!value.given()) {
      out_ += " null\n";
      return;
    }
    out_ += "\n";
    write_section(value.fields(), indent);
  }
  void write(const SectionListValue& value, const std::string& indent) {
    out_ += value.size() == 0 ? " []\n" : "\n";
    for (size_t i = 0; i < value.size(); ++i) {
      const size_t start = out_.size();
      write_section(value.fields(i), indent + "  ");
      out_[start + indent.size()] = '-';
    }
  }
  void write(const GlobListValue& value, const std::string& indent) {
    out_ += value.target->empty() ? " []\n" : "\n";
    for (const std::string& glob : *value.target) {
      out_ += indent + "- " + as_yaml_string(glob) + "\n";
    }
  }
  template <class Value>
  void write(const Value& value, const std::string&) {
    out_ += " " + (follows(value) ? "null" : value_text(value)) + "\n";
  }

  // Whether the value is to be left open: it is there, but was not given.
  bool follows(const FieldValue& value) const {
    if (!leaves_open_) return false;
    const auto is_open = Overloaded{[](const auto*) { return false; },
                                    []<class T>(const Derived<T>* derived) { return *derived && !derived->given(); }};
    return std::visit(Overloaded{
                          [&](const IntegerValue& number) { return std::visit(is_open, number.target); },
                          [&](const RealValue& number) { return std::visit(is_open, number.target); },
                          [](const auto&) { return false; },
                      },
                      value);
  }

  std::vector<std::string> spelt_out_;
  bool leaves_open_ = true;  // in the section that is being written
  std::string out_;
};

}  // namespace

std::string dump_config(const Config& config) {
  Dumper dumper({});
  dumper.write_config(config);
  return dumper.take();
}

std::string dump_config_of_weights(const Config& config) {
  Dumper dumper({"model", "moe"});
  dumper.write_config(config);
  return dumper.take();
}

}  // namespace switchyard
