#include "config/load.h"
#include "config/scalars.h"

namespace switchyard {
namespace {

OrderedJson section_schema(const Fields& fields);

OrderedJson type_or_null(const char* type, bool optional) {
  return optional ? OrderedJson::array({type, "null"}) : OrderedJson(type);
}

template <class T>
OrderedJson default_of(const NumberTarget<T>& target) {
  const auto* plain = std::get_if<T*>(&target);
  return plain != nullptr ? OrderedJson(**plain) : OrderedJson(nullptr);
}

OrderedJson schema_of(const IntegerValue& value) {
  return {{"type", type_or_null("integer", value.target.index() > 0)},
          {"minimum", value.range.least},
          {"maximum", value.range.most},
          {"default", default_of(value.target)}};
}

OrderedJson schema_of(const RealValue& value) {
  OrderedJson schema = {{"type", type_or_null("number", value.target.index() > 0)}};
  schema[value.range.open_least ? "exclusiveMinimum" : "minimum"] = value.range.least;
  schema[value.range.open_most ? "exclusiveMaximum" : "maximum"] = value.range.most;
  schema["default"] = default_of(value.target);
  return schema;
}

OrderedJson schema_of(const FlagValue& value) { return {{"type", "boolean"}, {"default", *value.target}}; }

OrderedJson schema_of(const TextValue& value) {
  OrderedJson schema = {{"type", "string"}, {"minLength", 1}};
  switch (value.rule) {
    case TextRule::kAny:
    case TextRule::kFolder:
      break;
    case TextRule::kSourceName:
      schema["pattern"] = "^[A-Za-z0-9_-][A-Za-z0-9_.-]*$";
      break;
    case TextRule::kTokenizer:
      schema["pattern"] = "^(byte|char|sentencepiece|(sentencepiece|huggingface):.+)$";
      break;
  }
  if (!value.target->empty()) {
    schema["default"] = *value.target;
  }
  return schema;
}

OrderedJson schema_of(const ChoiceValue& value) {
  return {{"type", "string"}, {"enum", value.names}, {"default", value.get()}};
}

OrderedJson schema_of(const LayerListValue& value) {
  const OrderedJson number = {{"type", "integer"}, {"minimum", 1}};
  const OrderedJson list = {{"type", "array"}, {"items", {{"enum", {0, 1}}}}, {"minItems", 1}};
  return {{"anyOf", OrderedJson::array({number, list})}, {"default", value.target->front()}};
}

OrderedJson schema_of(const GlobListValue&) {
  return {{"type", "array"}, {"items", {{"type", "string"}, {"minLength", 1}}}, {"minItems", 1}};
}

OrderedJson schema_of(const SectionValue& value) {
  OrderedJson map = section_schema(value.fields);
  if (value.shorthand.empty()) {
    map["type"] = type_or_null("object", true);
    return map;
  }
  const OrderedJson& word = map["properties"][value.shorthand];
  const OrderedJson plain = {{"type", "string"}, {"enum", word["enum"]}};
  return {{"anyOf", OrderedJson::array({plain, map})}, {"default", word["default"]}};
}

OrderedJson schema_of(const OptionalSectionValue& value) {
  OrderedJson schema = section_schema(value.fields());
  schema["type"] = type_or_null("object", true);
  schema["default"] = nullptr;
  return schema;
}

OrderedJson schema_of(const SectionListValue& value) {
  return {{"type", type_or_null("array", true)},
          {"items", section_schema(value.fields(0))},
          {"default", OrderedJson::array()}};
}

std::string description(const Field& field) {
  return field.meaning + (field.unit.empty() ? "" : " Unit: " + field.unit + ".") +
         (field.fallback.empty() ? "" : " Default: " + field.fallback + ".");
}

OrderedJson section_schema(const Fields& fields) {
  OrderedJson properties = OrderedJson::object();
  OrderedJson required = OrderedJson::array();
  for (const Field& field : fields) {
    OrderedJson schema = {{"description", description(field)}};
    schema.update(std::visit([](const auto& value) { return schema_of(value); }, field.value));
    properties[field.key] = std::move(schema);
    if (field.required) {
      required.push_back(field.key);
    }
  }
  OrderedJson schema = {{"type", "object"}, {"additionalProperties", false}, {"properties", std::move(properties)}};
  if (!required.empty()) {
    schema["required"] = std::move(required);
  }
  return schema;
}

}  // namespace

OrderedJson config_schema() {
  Config config = config_with_every_section();
  OrderedJson schema = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
                        {"title", "Switchyard configuration"}};
  schema.update(section_schema(fields_of(config)));
  schema["properties"]["extends"] = {
      {"description",
       "A file to build on, relative to this one, or preset:NAME; the keys given here replace its keys."},
      {"type", type_or_null("string", true)}};
  return schema;
}

}  // namespace switchyard
