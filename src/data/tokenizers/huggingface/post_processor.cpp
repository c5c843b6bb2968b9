#include "data/tokenizers/huggingface/post_processor.h"

#include "base/text.h"

namespace switchyard {
namespace {

constexpr size_t kMostSurroundingIds = 64;

void add_template(const JsonPart& part, int64_t vocab_size, SurroundingIds& ids) {
  std::vector<int32_t> before;
  std::vector<int32_t> after;
  bool has_text = false;
  for (const JsonPart& piece : part.at("single").items()) {
    if (const auto sequence = piece.find("Sequence")) {
      const JsonPart name = sequence->at("id");
      if (has_text || name.text() != "A") name.fail("must be A, once");
      has_text = true;
      continue;
    }
    const std::string& token = piece.at("SpecialToken").at("id").text();
    for (const JsonPart& id : part.at("special_tokens").at(token).at("ids").items()) {
      (has_text ? after : before).push_back(static_cast<int32_t>(id.whole_number(0, vocab_size - 1)));
    }
  }
  if (!has_text) part.fail("its template for a single text lacks the text");
  ids.before.insert(ids.before.begin(), before.begin(), before.end());
  ids.after.insert(ids.after.end(), after.begin(), after.end());
}

int32_t read_named_id(const JsonPart& part, int64_t vocab_size) {
  const std::vector<JsonPart> items = part.items();
  if (items.size() != 2) part.fail("must be a token and its id");
  return static_cast<int32_t>(items[1].whole_number(0, vocab_size - 1));
}

void add_surrounding(const JsonPart& part, int64_t vocab_size, SurroundingIds& ids) {
  const std::string& type = part.at("type").text();
  if (type == "Sequence") {
    for (const JsonPart& item : part.at("processors").items()) add_surrounding(item, vocab_size, ids);
  } else if (type == "TemplateProcessing") {
    add_template(part, vocab_size, ids);
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    ids.before.insert(ids.before.begin(), read_named_id(part.at("cls"), vocab_size));
    ids.after.push_back(read_named_id(part.at("sep"), vocab_size));
  } else if (type != "ByteLevel") {
    part.fail("the post-processor " + in_quotes(type) +
              " is not known; known are TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel and Sequence");
  }
  if (ids.before.size() + ids.after.size() > kMostSurroundingIds) {
    part.fail("puts more than " + std::to_string(kMostSurroundingIds) + " ids around a text");
  }
}

}  // namespace

SurroundingIds read_surrounding_ids(const JsonPart& part, int64_t vocab_size) {
  SurroundingIds ids;
  add_surrounding(part, vocab_size, ids);
  return ids;
}

}  // namespace switchyard
