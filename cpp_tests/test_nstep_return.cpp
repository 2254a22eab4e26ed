#include "ops/nstep_return.h"
#include "recurrence_testing.h"

namespace machin_fast {
namespace {

// No recurrence, but the same facts hold. Rows are int64 and become numbers for the comparison.
template <typename N, int kSteps>
struct NstepReturnCase {
  using Number = N;
  static constexpr int kOutputs = 3;

  struct Op {
    NstepArgs<N> args;
    std::vector<N>& row;
  };

  static Op op(const Rollout<N>& in, Outputs<N>& out) {
    return {{.reward = in.reward.data(),
             .terminated = in.terminated.get(),
             .truncated = in.truncated.get(),
             .reward_sum = out[0].data(),
             .discount = out[1].data(),
             .last_row = nullptr,
             .gamma = in.gamma,
             .n = kSteps},
            out[2]};
  }

  static int64_t count(const RolloutLayout& layout) { return layout.steps; }

  static void run(Isa isa, Op op, const RolloutLayout& layout, int64_t begin, int64_t end) {
    with_rows(op, [&](const NstepArgs<N>& args) {
      MF_CALL_ON(isa, nstep_steps(args, layout, begin, end));
    });
  }

  static void emulate(Op op, const RolloutLayout& layout) {
    std::vector<int64_t> scratch(size_t(layout.segments > 1 ? layout.segments + 1 : 0));
    with_rows(
        op, [&](const NstepArgs<N>& args) { launch_nstep(args, layout, scratch.data(), nullptr); });
  }

  template <typename Body>
  static void with_rows(Op op, Body body) {
    std::vector<int64_t> rows(op.row.begin(), op.row.end());
    op.args.last_row = rows.data();
    body(op.args);
    op.row.assign(rows.begin(), rows.end());
  }

  // Sutton and Barto 2018, equation 7.1.
  static void reference(const Rollout<N>& in, const Rows& rows, Outputs<double>& out) {
    for (size_t first = 0; first < rows.size(); ++first) {
      double sum = 0, discount = 1;
      int64_t last = rows[first];
      for (size_t t = first; t < rows.size() && t < first + kSteps; ++t) {
        last = rows[t];
        sum += discount * in.reward[last];
        discount *= in.gamma;
        if (in.done(last)) break;
      }
      out[0][rows[first]] = sum;
      out[1][rows[first]] = in.terminated[last] ? 0 : discount;
      out[2][rows[first]] = double(last);
    }
  }
};

using NstepReturnCases =
    testing::Types<NstepReturnCase<float, 1>, NstepReturnCase<double, 3>,
                   NstepReturnCase<float, 20>, NstepReturnCase<double, 100000>>;
INSTANTIATE_TYPED_TEST_SUITE_P(NstepReturn, Recurrence, NstepReturnCases);

}  // namespace
}  // namespace machin_fast
