// The lists of columns, and of batches of their rows, that gather_rows and write_rows_ take.
#pragma once

#include <span>
#include <vector>

#include "core/rows.h"
#include "core/span.h"
#include "ops/tensor.h"

namespace machin_fast {

using Arrays = std::span<const Array>;

std::vector<Array> views(const std::vector<Tensor>& tensors);
std::vector<Span> spans(Arrays arrays);
int64_t row_bytes(const Array& column);
bool same_row_shape(const Array& x, const Array& y);

// Columns share their number of rows and their device, and have no gaps inside a row.
void check_columns(const char* op, Arrays columns);

// For each column, `n` rows of its row shape, dtype and device.
void check_batch(const char* op, const char* name, Arrays batch, Arrays columns, int64_t n);
// The dtypes again: an Array does not tell all of them apart.
void check_batch_dtypes(const char* op, const char* name, const std::vector<Tensor>& batch,
                        const std::vector<Tensor>& columns);

// `n` rows of a column's kind, contiguous and uninitialised.
Tensor empty_rows(const Tensor& column, int64_t n);

// Columns with their batches, without those of no bytes at all.
std::vector<RowColumn> row_columns(Arrays columns, Arrays batch);

// How many rows a thread should copy at least: about what it does while another wakes up.
int64_t rows_per_thread(std::span<const RowColumn> columns);

}  // namespace machin_fast
