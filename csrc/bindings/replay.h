// The three things that a replay memory does all the time, each in one direct call (direct.h).
//
// Rows are numbered from the first that was ever appended; row r is at slot r % capacity of the
// columns, and those in [oldest, appended) are alive, at most `capacity`. `nodes` is the sum tree
// over the slots, of either dtype, or None. A call that raises has changed neither columns nor
// tree.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

namespace machin_fast {

// replay_appender(names, columns, counters, nodes, largest, alpha, epsilon) -> append(rows) -> bool
// What appends to a replay: `rows` are a dict of keywords, which nobody else has, in any order. It
// writes them behind those that are there, around the end, sets their leaves to the mass
// (largest + epsilon) ^ alpha and counts them. False, and nothing is changed, if they must be
// converted or looked at before: they are not all contiguous tensors on the CPU like the columns,
// or more than fit in, or the mass is more than a tree takes.
// `counters` (int64), `nodes` and `largest` (float64 [1]) must stay where they are; the last four
// are None without priorities.
PyObject* replay_appender(PyObject*, PyObject* const* args, Py_ssize_t count);

// replay_sample(columns, batch, nodes, seed, call, oldest, appended, beta)
// Draws rows into `batch`: slot and index (number) int64 [n], weight float32 [n], mass [n] with the
// tree's dtype, then one tensor for each column. With a tree, draws are those of sum_tree_sample,
// stratified, and weights (least mass in the tree / mass) ^ beta. Without one, draws are uniform,
// weights 1, and masses stay as they are.
PyObject* replay_sample(PyObject*, PyObject* const* args, Py_ssize_t count);

// replay_update(nodes, capacity, index, priority, oldest, appended, alpha, epsilon)
// -> (stale, largest)
// Gives rows the mass (priority + epsilon) ^ alpha, but for stale ones, which are not alive any
// more. Returns how many these were, and the largest priority of the others, 0 if there is none.
// None, and nothing is changed, if `index` (int64) and `priority` (float32 or float64) are not
// contiguous tensors [n] on the CPU.
PyObject* replay_update(PyObject*, PyObject* const* args, Py_ssize_t count);

}  // namespace machin_fast
