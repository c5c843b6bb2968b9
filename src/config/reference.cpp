#include "config/load.h"
#include "config/scalars.h"

namespace switchyard {
namespace {

// A cell of a Markdown table.
std::string cell(const std::string& text) {
  std::string result;
  for (const char c : text) {
    result += c == '|' ? std::string("\\|") : std::string(1, c);
  }
  return result;
}

struct TypeAndRange {
  std::string type;
  std::string range;
};

TypeAndRange describe(const FieldValue& value) {
  return std::visit(Overloaded{
                        [](const IntegerValue& v) {
                          return TypeAndRange{"integer", range_text(v.range)};
                        },
                        [](const RealValue& v) {
                          return TypeAndRange{"number", range_text(v.range)};
                        },
                        [](const FlagValue&) {
                          return TypeAndRange{"bool", "true or false"};
                        },
                        [](const TextValue&) {
                          return TypeAndRange{"text", ""};
                        },
                        [](const ChoiceValue& v) {
                          return TypeAndRange{"word", joined_with_or(v.names)};
                        },
                        [](const LayerListValue&) {
                          return TypeAndRange{"integer or list", "at least 1, or a 0 or 1 for each layer"};
                        },
                        [](const GlobListValue&) {
                          return TypeAndRange{"list of texts", ""};
                        },
                        [](const auto&) { return TypeAndRange{}; },
                    },
                    value);
}

std::string default_text(const Field& field) {
  if (field.required) {
    return "required";
  }
  return field.fallback.empty() ? "`" + value_text(field.value) + "`" : field.fallback;
}

void write_row(const Field& field, std::string& out) {
  const auto [type, range] = describe(field.value);
  out += "| `" + field.key + "` | " + type + (field.unit.empty() ? "" : ", " + field.unit) + " | " +
         cell(default_text(field)) + " | " + cell(range) + " | " + cell(field.meaning) + " |\n";
}

// The fields of a section-like value, or nothing for a leaf.
std::optional<Fields> fields_within(const FieldValue& value) {
  return std::visit(Overloaded{
                        [](const SectionValue& v) { return std::optional(v.fields); },
                        [](const OptionalSectionValue& v) { return std::optional(v.fields()); },
                        [](const SectionListValue& v) { return std::optional(v.fields(0)); },
                        [](const auto&) { return std::optional<Fields>(); },
                    },
                    value);
}

// A table of the section's own keys, then the sections inside it.
void write_section(const Field& section, const std::string& dotted, std::string& out) {
  const Fields fields = fields_within(section.value).value();
  const bool is_list = std::holds_alternative<SectionListValue>(section.value);
  out += "\n## " + dotted + "\n\n" + section.meaning + (is_list ? " A list; each entry has these keys." : "") +
         "\n\n| Key | Type | Default | Range | Meaning |\n|---|---|---|---|---|\n";
  for (const Field& field : fields) {
    if (!fields_within(field.value)) {
      write_row(field, out);
    }
  }
  for (const Field& field : fields) {
    if (fields_within(field.value)) {
      write_section(field, dotted + "." + field.key, out);
    }
  }
}

constexpr const char* kIntroduction = R"(# Configuration reference

Made from the declarations in `src/config/fields.cpp`; do not edit. A configuration is one YAML document. Every key has
the default given here unless it is marked as required, and a key that is not listed is an error. Any key can be
overridden on the command line as `key=value` with its dotted name, for instance `moe.top_k=1` or
`data.sources.0.weight=2`.

`extends: FILE` at the top of a file builds on another one (relative to the file that says so): maps are merged key by
key, lists and single values replace. `extends: preset:NAME` builds on a configuration that comes with the program;
`switchyard presets` lists them. Aliases, anchors and tags of YAML are not supported.
)";

}  // namespace

std::string config_reference() {
  Config config = config_with_every_section();
  std::string out = kIntroduction;
  for (const Field& field : fields_of(config)) {
    write_section(field, field.key, out);
  }
  return out;
}

}  // namespace switchyard
