#pragma once

#include <cstdint>

namespace machin_fast {

// A column of a table, and a batch of rows that are copied from it or to it. Rows are bytes, and
// lie without gaps inside; columns may be fields of one record, then their strides are equal.
struct RowColumn {
  char* rows;  // row i at rows + i * stride
  int64_t stride;
  char* batch;  // row i at batch + i * batch_stride
  int64_t batch_stride;
  int64_t bytes;  // of a row
};

}  // namespace machin_fast
