// Calls on CPU tensors that go past torch's dispatcher: 0.3 to 1.1 us for small batches
// instead of 3 to 5 (measured). For classes that own their tensors; they fall back to the ops where
// `connect` says no.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

namespace machin_fast {

// sum_tree_update(nodes, index, weight, capacity); index and weight may be one int and one float.
PyObject* direct_sum_tree_update(PyObject*, PyObject* const* args, Py_ssize_t count);
// sum_tree_sample(nodes, seed, call, capacity, stratified, index, weight, probability)
PyObject* direct_sum_tree_sample(PyObject*, PyObject* const* args, Py_ssize_t count);
// seed_of_call(seed, call) -> int: the seed that sum_tree_sample uses, as the ops take it.
PyObject* direct_seed_of_call(PyObject*, PyObject* const* args, Py_ssize_t count);
// sum_tree_summary(nodes, capacity) -> (total, minimum)
PyObject* direct_sum_tree_summary(PyObject*, PyObject* const* args, Py_ssize_t count);

// gather_rows(columns, index, out); columns and out are tuples, lists or `views` of tensors.
PyObject* direct_gather_rows(PyObject*, PyObject* const* args, Py_ssize_t count);
// write_rows(columns, rows, start)
PyObject* direct_write_rows(PyObject*, PyObject* const* args, Py_ssize_t count);

// native_envs_step(env, batch, action, max_episode_steps, autoreset, outputs); batch is (state,
// counters), outputs (observation, reward, terminated, truncated[, final_observation]), as tuples,
// lists or `views`.
PyObject* direct_native_envs_step(PyObject*, PyObject* const* args, Py_ssize_t count);

}  // namespace machin_fast
