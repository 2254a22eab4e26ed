// The lists of columns, and of batches of their rows, that gather_rows and write_rows_ take.
#pragma once

#include <vector>

#include "core/rows.h"
#include "ops/tensor.h"

namespace machin_fast {

std::vector<Array> views(const std::vector<Tensor>& tensors);

// Columns share their number of rows and their device, and have no gaps inside a row.
void check_columns(const char* op, const std::vector<Array>& columns);

// For each column, `n` rows of its row shape and device.
void check_batch(const char* op, const char* name, const std::vector<Array>& batch,
                 const std::vector<Array>& columns, int64_t n);
// And of its dtype. By the tensors, since Arrays do not tell all dtypes apart.
void check_batch_dtypes(const char* op, const char* name, const std::vector<Tensor>& batch,
                        const std::vector<Tensor>& columns);

// Whether some byte lies between the first and the last of both. Gaps count.
bool overlap(const Array& x, const Array& y);

// `n` rows of a column's kind, contiguous and uninitialised.
Tensor empty_rows(const Tensor& column, int64_t n);

// Columns with their batches, without those of no bytes at all.
std::vector<RowColumn> row_columns(const std::vector<Array>& columns,
                                   const std::vector<Array>& batch);

// How many rows a thread should copy at least: about what it does while another wakes up.
int64_t rows_per_thread(const std::vector<RowColumn>& columns);

}  // namespace machin_fast
