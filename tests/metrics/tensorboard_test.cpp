// Reads the written files back with a reader of its own: records with their checksums, then protocol-buffer fields.
#include "metrics/tensorboard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <optional>
#include <vector>

#include "base/errors.h"
#include "tests/support/temporary_folder.h"

namespace switchyard {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

template <typename T>
T number_at(std::string_view bytes, size_t offset = 0) {
  T value;
  std::memcpy(&value, bytes.substr(offset, sizeof(T)).data(), sizeof(T));
  return value;
}

// The events of all whole records; stops at a cut one. Reports wrong checksums as test failures.
std::vector<std::string> records_of(std::string_view file) {
  std::vector<std::string> events;
  while (file.size() >= 12) {
    const auto length = number_at<uint64_t>(file);
    EXPECT_EQ(number_at<uint32_t>(file, 8), masked_crc32c(file.substr(0, 8)));
    if (length > file.size() - 12 || file.size() - 12 - length < 4) break;
    const std::string_view event = file.substr(12, length);
    EXPECT_EQ(number_at<uint32_t>(file, 12 + length), masked_crc32c(event));
    events.emplace_back(event);
    file.remove_prefix(16 + length);
  }
  return events;
}

// Fields of one message: the raw bytes of each (a varint as 8 bytes).
std::map<int, std::string> fields_of(std::string_view message) {
  const auto varint = [&] {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(message.at(0));
      message.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  std::map<int, std::string> fields;
  while (!message.empty()) {
    const uint64_t key = varint();
    size_t size = 0;
    switch (key & 7) {
      case 0: {
        const uint64_t value = varint();
        fields[static_cast<int>(key >> 3)] = std::string(reinterpret_cast<const char*>(&value), 8);
        continue;
      }
      case 1:
        size = 8;
        break;
      case 2:
        size = varint();
        break;
      case 5:
        size = 4;
        break;
      default:
        ADD_FAILURE() << "wire type " << (key & 7);
        return fields;
    }
    fields[static_cast<int>(key >> 3)] = std::string(message.substr(0, size));
    message.remove_prefix(size);
  }
  return fields;
}

std::vector<double> doubles_of(const std::string& packed) {
  std::vector<double> values;
  for (size_t i = 0; i < packed.size(); i += 8) values.push_back(number_at<double>(packed, i));
  return values;
}

class Events : public ::testing::Test {
 protected:
  // The Summary.Value of record i, after a look at its step.
  std::map<int, std::string> value(size_t i, int64_t step) {
    writer_.flush();
    const auto records = records_of(test::slurp(writer_.path()));
    const auto event = fields_of(records.at(i));
    EXPECT_EQ(number_at<int64_t>(event.at(2)), step);
    EXPECT_GT(number_at<double>(event.at(1)), 1.6e9);  // wall time: seconds since 1970
    return fields_of(fields_of(event.at(5)).at(1));
  }

  test::TemporaryFolder scratch_;
  EventWriter writer_{scratch_.path()};
};

TEST(Crc32c, CheckValues) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283);  // the check value of CRC-32C
  EXPECT_EQ(crc32c(""), 0U);
  EXPECT_EQ(masked_crc32c("\x1a\x11"
                          "CRC test, one two"),
            0x5794d08a);
}

TEST_F(Events, FileNameAndVersion) {
  EXPECT_THAT(writer_.path().filename().string(), StartsWith("events.out.tfevents."));
  const auto records = records_of(test::slurp(writer_.path()));
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(fields_of(records[0]).at(3), "brain.Event:2");
}

TEST_F(Events, Scalar) {
  writer_.scalar("train/loss", 2.5, 1234567890123);
  const auto found = value(1, 1234567890123);
  EXPECT_EQ(found.at(1), "train/loss");
  EXPECT_EQ(number_at<float>(found.at(2)), 2.5F);
}

TEST_F(Events, Histogram) {
  writer_.histogram("load/layer 0", std::vector<double>{0, 3, 0, 1, 0}, 7);
  const auto found = value(1, 7);
  EXPECT_EQ(found.at(1), "load/layer 0");
  const auto histogram = fields_of(found.at(5));
  EXPECT_EQ(number_at<double>(histogram.at(1)), 1);  // left of the first that is not empty
  EXPECT_EQ(number_at<double>(histogram.at(2)), 4);  // right of the last
  EXPECT_EQ(number_at<double>(histogram.at(3)), 4);  // 3 + 1
  EXPECT_EQ(number_at<double>(histogram.at(4)), 3 * 1.5 + 3.5);
  EXPECT_EQ(number_at<double>(histogram.at(5)), 3 * 1.5 * 1.5 + 3.5 * 3.5);
  EXPECT_THAT(doubles_of(histogram.at(6)), ElementsAre(1, 2, 3, 4, 5));
  EXPECT_THAT(doubles_of(histogram.at(7)), ElementsAre(0, 3, 0, 1, 0));
}

TEST_F(Events, Text) {
  writer_.text("config", "| a | b |", 0);
  const auto found = value(1, 0);
  const auto tensor = fields_of(found.at(8));
  EXPECT_EQ(number_at<uint64_t>(tensor.at(1)), 7U);  // DT_STRING
  EXPECT_EQ(number_at<uint64_t>(fields_of(fields_of(tensor.at(2)).at(2)).at(1)), 1U);
  EXPECT_EQ(tensor.at(8), "| a | b |");
  EXPECT_EQ(fields_of(fields_of(found.at(9)).at(1)).at(1), "text");
}

TEST_F(Events, EveryCutLeavesAReadablePrefix) {
  for (int step = 1; step <= 3; ++step) writer_.scalar("a", step, step);
  writer_.flush();
  const std::string whole = test::slurp(writer_.path());
  size_t most = 0;
  for (size_t size = 0; size <= whole.size(); ++size) {
    const size_t found = records_of(std::string_view(whole).substr(0, size)).size();
    EXPECT_GE(found, most);
    most = found;
  }
  EXPECT_EQ(most, 4U);
}

TEST_F(Events, ASecondWriterOpensAFileOfItsOwn) {
  const EventWriter second(scratch_.path(), 41);
  EXPECT_NE(second.path(), writer_.path());
  // SessionLog.START at the first step that is done anew: what TensorBoard purges by.
  const auto events = records_of(test::slurp(second.path()));
  ASSERT_EQ(events.size(), 2U);
  auto fields = fields_of(events[1]);
  EXPECT_EQ(number_at<uint64_t>(fields.at(2)), 41U);
  EXPECT_EQ(number_at<uint64_t>(fields_of(fields.at(7)).at(1)), 1U);
}

TEST(EventWriter, FolderThatIsMissing) {
  const test::TemporaryFolder scratch;
  EXPECT_THAT(test::message_of<Error>([&] { EventWriter(scratch.path() / "none"); }),
              HasSubstr("none/events.out.tfevents"));
}

}  // namespace
}  // namespace switchyard
