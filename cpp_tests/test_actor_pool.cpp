#include <gtest/gtest.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "actor_pool/control_block.h"
#include "actor_pool/dispatcher.h"
#include "actor_pool/inbox.h"
#include "actor_pool/parent_death.h"
#include "actor_pool_testing.h"

namespace machin_fast {
namespace {

using testing::Child;
using testing::milliseconds;
using testing::seconds;
using testing::SharedMemory;
using Ids = std::vector<int64_t>;

constexpr auto kLong = seconds(20);  // nothing here takes so long

std::vector<int32_t> dealt_out(int64_t num_envs, int64_t num_workers) {
  std::vector<int32_t> owner(num_envs);
  for (int64_t env = 0; env < num_envs; ++env) owner[env] = int32_t(env % num_workers);
  return owner;
}

Ids all(int64_t num_envs) {
  Ids ids(num_envs);
  for (int64_t env = 0; env < num_envs; ++env) ids[env] = env;
  return ids;
}

struct Pool {
  Pool(int64_t num_envs, int64_t num_workers)
      : Pool(dealt_out(num_envs, num_workers), num_workers) {}
  Pool(std::vector<int32_t> owner, int64_t num_workers)
      : num_envs(int64_t(owner.size())),
        num_workers(num_workers),
        memory(ControlBlock::size(num_envs, num_workers)),
        dispatcher(memory.data(), std::move(owner), num_workers) {}

  Inbox inbox(int64_t worker) const { return {memory.data(), num_envs, num_workers, worker}; }

  // All answers that come until `count` are there.
  std::vector<std::pair<int64_t, int32_t>> receive(int64_t count) {
    EXPECT_EQ(dispatcher.wait(count, Clock::now() + kLong), Dispatcher::Wait::kReady);
    return take(count);
  }
  std::vector<std::pair<int64_t, int32_t>> take(int64_t count) {
    Ids ids(count);
    std::vector<int32_t> flags(count);
    const int64_t n = dispatcher.take(ids, flags);
    std::vector<std::pair<int64_t, int32_t>> answers;
    for (int64_t i = 0; i < n; ++i) answers.emplace_back(ids[i], flags[i]);
    return answers;
  }

  int64_t num_envs;
  int64_t num_workers;
  SharedMemory memory;
  Dispatcher dispatcher;
};

// Answers until the pool closes, and says whether it did: serve(env) -> flag.
template <typename Serve>
bool serve_until_closed(Inbox inbox, const Serve& serve) {
  while (true) {
    const auto outcome = inbox.wait(Clock::now() + kLong);
    if (outcome != Inbox::Wait::kReady) return outcome == Inbox::Wait::kClosed;
    for (const int32_t entry : inbox.take()) {
      if (entry != kCall) inbox.done(entry, serve(entry));
    }
  }
}

template <typename Body>
std::string error_of(const Body& body) {
  try {
    body();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "none";
}

// -- with threads, so that ThreadSanitizer sees both ends --------------------------------------

class Crowds : public ::testing::TestWithParam<std::pair<int64_t, int64_t>> {};
INSTANTIATE_TEST_SUITE_P(ActorPool, Crowds,
                         ::testing::Values(std::pair(1, 1), std::pair(7, 1), std::pair(8, 2),
                                           std::pair(33, 4)));

TEST_P(Crowds, EveryStepIsAnsweredOnceWithItsData) {
  const auto [num_envs, num_workers] = GetParam();
  Pool pool(num_envs, num_workers);
  // Plain memory, like observations and actions: the rings alone order who may touch it.
  std::vector<int64_t> action(num_envs), observation(num_envs);
  std::vector<std::thread> workers;
  for (int64_t w = 0; w < num_workers; ++w) {
    workers.emplace_back([&, w] {
      EXPECT_TRUE(serve_until_closed(pool.inbox(w), [&](int32_t env) {
        observation[env] = 10 * action[env];
        return int32_t(action[env] % 3);
      }));
    });
  }
  std::mt19937 random(7);
  Ids order = all(num_envs);
  for (int64_t round = 0; round < 400; ++round) {
    // Some of them, in any order, so that rings wrap around at all places.
    std::shuffle(order.begin(), order.end(), random);
    const auto some = std::span(order).first(1 + random() % order.size());
    for (const int64_t env : some) action[env] = 100 * round + env;
    pool.dispatcher.send(some);
    std::vector<bool> seen(num_envs);
    for (size_t got = 0; got < some.size();) {
      const auto answers = pool.receive(1 + int64_t(random() % (some.size() - got)));
      ASSERT_FALSE(answers.empty());
      got += answers.size();
      for (const auto& [env, flag] : answers) {
        EXPECT_FALSE(seen[env]);
        seen[env] = true;
        EXPECT_EQ(observation[env], 10 * action[env]);
        EXPECT_EQ(action[env], 100 * round + env);
        EXPECT_EQ(flag, action[env] % 3);
      }
    }
    EXPECT_EQ(pool.dispatcher.in_flight(), 0);
  }
  pool.dispatcher.close();
  for (std::thread& worker : workers) worker.join();
}

TEST(ActorPool, AWorkerTakesAndAnswersInTheOrderOfPosting) {
  Pool pool(5, 1);
  Inbox inbox = pool.inbox(0);
  for (const Ids& order : {Ids{3, 0, 4}, Ids{1, 2}, Ids{4, 3, 2, 1, 0}}) {
    pool.dispatcher.send(order);
    const auto entries = inbox.take();
    EXPECT_EQ(Ids(entries.begin(), entries.end()), order);
    for (const int32_t env : entries) inbox.done(env, 0);
    Ids answered;
    for (const auto& [env, flag] : pool.take(5)) answered.push_back(env);
    EXPECT_EQ(answered, order);
  }
}

TEST(ActorPool, TheFirstReadyDoNotWaitForTheOthers) {
  Pool pool(4, 2);
  Inbox fast = pool.inbox(1);
  pool.dispatcher.send(all(4));
  fast.take();
  fast.done(3, 0);
  EXPECT_EQ(pool.receive(1), (std::vector<std::pair<int64_t, int32_t>>{{3, 0}}));
  EXPECT_EQ(pool.dispatcher.in_flight(), 3);
}

TEST(ActorPool, WorkersAreServedInTurns) {
  Pool pool(4, 2);
  std::array<Inbox, 2> inboxes{pool.inbox(0), pool.inbox(1)};
  const auto answer_all = [&] {
    for (Inbox& inbox : inboxes) {
      for (const int32_t env : inbox.take()) inbox.done(env, 0);
    }
  };
  std::array<int, 4> received{};
  for (int round = 0; round < 40; ++round) {
    Ids idle;
    for (int64_t env = 0; env < 4; ++env) idle.push_back(env);
    if (round > 0) idle.clear();
    pool.dispatcher.send(idle);
    answer_all();
    const int64_t env = pool.take(1).at(0).first;
    ++received[env];
    pool.dispatcher.send(Ids{env});
  }
  for (const int count : received) EXPECT_EQ(count, 10);
}

TEST(ActorPool, ABadSendPostsNothing) {
  Pool pool({0, 1, Dispatcher::kParent, 0}, 2);
  Inbox inbox = pool.inbox(0);
  pool.dispatcher.send(Ids{0});
  const auto refused = [&](const Ids& ids) { return error_of([&] { pool.dispatcher.send(ids); }); };
  EXPECT_EQ(refused({3, 4}), "Dispatcher.send: ids must be an environment, got 4 at position 1");
  EXPECT_EQ(refused({-1}), "Dispatcher.send: ids must be an environment, got -1 at position 0");
  EXPECT_EQ(refused({3, 2}), "Dispatcher.send: ids must be dispatched, got 2 at position 1");
  EXPECT_EQ(refused({3, 1, 3}),
            "Dispatcher.send: ids must be given once and not in flight, got 3 at position 2");
  EXPECT_EQ(refused({1, 0}),
            "Dispatcher.send: ids must be given once and not in flight, got 0 at position 1");
  EXPECT_EQ(pool.dispatcher.in_flight(), 1);
  EXPECT_EQ(inbox.take(), std::vector<int32_t>{0});
  pool.dispatcher.send(Ids{3, 1});  // none of the refused is taken to be in flight
}

TEST(ActorPool, CallsThatLieLeaveRoomForEveryStep) {
  Pool pool(3, 1);
  pool.dispatcher.send(all(3));
  for (int64_t i = 0; i < kMostCalls; ++i) pool.dispatcher.call(0);
  EXPECT_EQ(error_of([&] { pool.dispatcher.call(0); }),
            "Dispatcher.call: worker must take its earlier calls first, got 19 entries that lie");
  Inbox inbox = pool.inbox(0);
  std::vector<int32_t> expected{0, 1, 2};
  expected.insert(expected.end(), kMostCalls, kCall);
  EXPECT_EQ(inbox.take(), expected);

  // The fullest ring there is: as many calls as fit, then all environments.
  for (int64_t i = 0; i < 3 + kMostCalls; ++i) pool.dispatcher.call(0);
  for (int32_t env = 0; env < 3; ++env) inbox.done(env, 0);
  pool.take(3);
  pool.dispatcher.send(all(3));
  expected.assign(3 + kMostCalls, kCall);
  expected.insert(expected.end(), {0, 1, 2});
  EXPECT_EQ(inbox.take(), expected);
  EXPECT_EQ(error_of([&] { pool.dispatcher.call(1); }),
            "Dispatcher.call: worker must be in [0, 1), got 1");
}

TEST(ActorPool, WaitingEndsWithItsTime) {
  Pool pool(2, 1);
  Inbox inbox = pool.inbox(0);
  EXPECT_EQ(inbox.wait(Clock::now() + milliseconds(5)), Inbox::Wait::kNothing);
  pool.dispatcher.send(Ids{0});
  const auto start = Clock::now();
  EXPECT_EQ(pool.dispatcher.wait(1, start + milliseconds(30)), Dispatcher::Wait::kNothing);
  EXPECT_GE(Clock::now() - start, milliseconds(30));
  EXPECT_TRUE(pool.take(1).empty());
}

TEST(ActorPool, NobodyWaitsForMoreThanIsInFlight) {
  Pool pool(2, 1);
  EXPECT_EQ(pool.dispatcher.wait(2, Clock::now() + kLong), Dispatcher::Wait::kReady);
  Inbox inbox = pool.inbox(0);
  pool.dispatcher.send(Ids{1});
  inbox.take();
  inbox.done(1, 5);
  EXPECT_EQ(pool.receive(2), (std::vector<std::pair<int64_t, int32_t>>{{1, 5}}));
}

TEST(ActorPool, CloseWakesAllThatWait) {
  Pool pool(4, 2);
  std::vector<std::thread> workers;
  for (int64_t w = 0; w < 2; ++w) {
    workers.emplace_back([&, w] {
      Inbox inbox = pool.inbox(w);
      auto outcome = Inbox::Wait::kReady;
      while ((outcome = inbox.wait(Clock::now() + kLong)) == Inbox::Wait::kReady) inbox.take();
      EXPECT_EQ(outcome, Inbox::Wait::kClosed);
    });
  }
  pool.dispatcher.send(all(4));
  std::thread closer([&] {
    std::this_thread::sleep_for(milliseconds(20));  // long enough that most sleep by then
    pool.dispatcher.close();
    pool.dispatcher.close();
  });
  EXPECT_EQ(pool.dispatcher.wait(4, Clock::now() + kLong), Dispatcher::Wait::kClosed);
  closer.join();
  for (std::thread& worker : workers) worker.join();
}

TEST(ActorPool, AnIdleWorkerSleeps) {
  Pool pool(1, 1);
  Inbox inbox = pool.inbox(0);
  const auto used = [] {
    timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  };
  const auto before = used();
  for (int i = 0; i < 3; ++i) inbox.wait(Clock::now() + milliseconds(50));
  EXPECT_LT(used() - before, milliseconds(15));
}

TEST(ActorPool, AWorkerAnswersOnlyWhatItTook) {
  Pool pool(2, 1);
  Inbox inbox = pool.inbox(0);
  const auto refused = [&](int64_t env) { return error_of([&] { inbox.done(env, 0); }); };
  const std::string rule = "Inbox.done: env must be one that was taken and not answered, got ";
  EXPECT_EQ(refused(0), rule + "0");
  EXPECT_EQ(refused(2), rule + "2");
  EXPECT_EQ(refused(-1), rule + "-1");
  pool.dispatcher.send(Ids{0});
  inbox.take();
  inbox.done(0, 0);
  EXPECT_EQ(refused(0), rule + "0");
}

TEST(ActorPool, TheHeartbeatIsThatOfTheLastTakeOrAnswer) {
  Pool pool(2, 2);
  EXPECT_TRUE(std::isinf(pool.dispatcher.heartbeat_age(0)));
  pool.inbox(0).take();
  EXPECT_LT(pool.dispatcher.heartbeat_age(0), 5);
  EXPECT_TRUE(std::isinf(pool.dispatcher.heartbeat_age(1)));
}

TEST(ActorPool, ABlockOfOtherNumbersIsRefused) {
  Pool pool(4, 2);
  SharedMemory zeros(ControlBlock::size(4, 2));
  EXPECT_EQ(error_of([&] { Inbox(zeros.data(), 4, 2, 0); }),
            "Inbox: fd must hold a control block, got other bytes");
  EXPECT_EQ(error_of([&] { Inbox(pool.memory.data(), 3, 2, 0); }),
            "Inbox: num_envs and num_workers must be 4 and 2, got 3 and 2");
  EXPECT_EQ(error_of([&] { Inbox(pool.memory.data(), 4, 2, 2); }),
            "Inbox: worker must be in [0, 2), got 2");
  EXPECT_EQ(error_of([&] { Pool(4, 5); }),
            "Dispatcher: num_workers must be in [1, num_envs], got 5");
  EXPECT_EQ(error_of([&] { Pool({0, 2}, 2); }),
            "Dispatcher: owner must be in [-1, 2), got 2 at position 1");
}

// -- with processes ----------------------------------------------------------------------------

TEST(ActorPool, AWorkerThatDiesLeavesWhatItAnswered) {
  Pool pool(4, 2);
  pool.dispatcher.send(all(4));
  Child worker([&] {
    Inbox inbox = pool.inbox(0);
    inbox.take();
    inbox.done(2, 9);
    raise(SIGKILL);
  });
  pool.dispatcher.watch(0, worker.ended());
  EXPECT_EQ(worker.wait(), -SIGKILL);
  EXPECT_EQ(pool.dispatcher.wait(2, Clock::now() + kLong), Dispatcher::Wait::kDeath);
  EXPECT_EQ(pool.dispatcher.dead(), Ids{0});
  EXPECT_EQ(pool.take(4), (std::vector<std::pair<int64_t, int32_t>>{{2, 9}}));
  EXPECT_EQ(pool.dispatcher.forget(0), Ids{0});
  EXPECT_TRUE(pool.dispatcher.dead().empty());
  EXPECT_EQ(pool.dispatcher.in_flight(), 2);  // the other worker's

  // A new process takes its place.
  pool.dispatcher.send(Ids{2, 0});
  Child heir([&] {
    if (!serve_until_closed(pool.inbox(0), [](int32_t env) { return env + 1; })) _exit(1);
  });
  EXPECT_EQ(pool.receive(2), (std::vector<std::pair<int64_t, int32_t>>{{2, 3}, {0, 1}}));
  pool.dispatcher.close();
  EXPECT_EQ(heir.wait(), 0);
}

TEST(ActorPool, ForgottenAnswersAreLostAsWell) {
  Pool pool(3, 1);
  Inbox inbox = pool.inbox(0);
  pool.dispatcher.send(all(3));
  inbox.take();
  inbox.done(1, 0);
  EXPECT_EQ(pool.dispatcher.forget(0), all(3));
  EXPECT_TRUE(pool.take(3).empty());
  EXPECT_EQ(pool.dispatcher.in_flight(), 0);
}

// Environments are 64 words; a step writes the action into all of them.
struct Slot {
  std::array<int64_t, 64> words;
};

TEST(ActorPool, NoSlotIsTornByRandomKills) {
  constexpr int64_t kEnvs = 8;
  Pool pool(kEnvs, 2);
  SharedMemory memory(kEnvs * (sizeof(Slot) + sizeof(int64_t)));
  const std::span slots(reinterpret_cast<Slot*>(memory.data()), kEnvs);
  const std::span actions(reinterpret_cast<int64_t*>(memory.data() + kEnvs * sizeof(Slot)), kEnvs);
  const auto work = [&](int64_t w) {
    const bool closed = serve_until_closed(pool.inbox(w), [&](int32_t env) {
      for (int64_t& word : slots[env].words) {
        *const_cast<volatile int64_t*>(&word) = actions[env];
      }
      return 0;
    });
    if (!closed) _exit(1);
  };
  std::mt19937 random(3);
  std::vector<std::unique_ptr<Child>> workers;
  for (int64_t w = 0; w < 2; ++w) {
    workers.push_back(std::make_unique<Child>([&, w] { work(w); }));
    pool.dispatcher.watch(w, workers[w]->ended());
  }
  int64_t steps = 0;
  for (int kills = 0; kills < 30; ++kills) {
    const int64_t victim = random() % 2;
    const auto at = Clock::now() + std::chrono::microseconds(random() % 3000);
    bool killed = false;
    Ids idle = all(kEnvs);
    while (!killed || !idle.empty()) {
      if (!killed && Clock::now() >= at) {
        kill(workers[victim]->pid(), SIGKILL);
        killed = true;
      }
      for (const int64_t env : idle) actions[env] = ++steps;
      pool.dispatcher.send(idle);
      const auto outcome = pool.dispatcher.wait(3, Clock::now() + kLong);
      ASSERT_NE(outcome, Dispatcher::Wait::kNothing);
      idle.clear();
      for (const auto& [env, flag] : pool.take(kEnvs)) {
        for (const int64_t word : slots[env].words) ASSERT_EQ(word, actions[env]);
        if (!killed) idle.push_back(env);
      }
      if (outcome == Dispatcher::Wait::kDeath) break;
    }
    // What the survivor still has, then a new process.
    workers[victim]->kill();
    pool.dispatcher.forget(victim);
    pool.receive(kEnvs);
    workers[victim] = std::make_unique<Child>([&, victim] { work(victim); });
    pool.dispatcher.watch(victim, workers[victim]->ended());
  }
  EXPECT_GT(steps, 30 * kEnvs);
  pool.dispatcher.close();
  for (const auto& worker : workers) EXPECT_EQ(worker->wait(), 0);
}

TEST(ActorPool, AProcessEndsWithItsParent) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  Child worker([&] {
    close(ends[1]);
    exit_with_parent(ends[0], false);
    while (true) pause();
  });
  close(ends[0]);
  close(ends[1]);  // as if the parent had ended
  EXPECT_EQ(worker.wait(), 1);
}

}  // namespace
}  // namespace machin_fast
