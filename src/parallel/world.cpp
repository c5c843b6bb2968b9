#include "parallel/world.h"

#include <future>
#include <thread>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "base/errors.h"
#include "parallel/agree.h"
#include "parallel/backends.h"
#include "parallel/reason.h"

namespace switchyard {

using std::chrono::milliseconds;
namespace {

using Clock = std::chrono::steady_clock;

// How long the others get to say what happened to them, and rank 0's store outlives rank 0's own end.
constexpr milliseconds kRollCall{5000};
constexpr milliseconds kPoll{20};

std::string key(const char* what, int rank) { return std::string(what) + "/" + std::to_string(rank); }

bool has_key(c10d::Store& store, const std::string& name) { return store.check({name}); }

// The ranks that have not set their key `what` before `timeout`.
std::vector<int> missing_after(c10d::Store& store, const char* what, int size, milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  for (;;) {
    std::vector<int> missing;
    for (int rank = 0; rank < size; ++rank) {
      if (!has_key(store, key(what, rank))) missing.push_back(rank);
    }
    if (missing.empty() || Clock::now() >= deadline) return missing;
    std::this_thread::sleep_for(kPoll);
  }
}

}  // namespace

struct World::Stores {
  c10::intrusive_ptr<c10d::Store> main;
  c10::intrusive_ptr<c10d::Store> roll_call;  // a connection of its own: the other may be in use when things fail
};

namespace {

// Runs `action` in a thread that is left behind if it takes too long: a store whose machine is out of reach answers
// nothing, for as long as TCP hopes. False then, and where `action` throws.
bool done_within(milliseconds timeout, std::function<void()> action) {
  auto task = std::make_shared<std::packaged_task<void()>>(std::move(action));
  std::future<void> done = task->get_future();
  std::thread([task] { (*task)(); }).detach();
  if (done.wait_for(timeout) != std::future_status::ready) return false;
  try {
    done.get();
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace

World::World(Launch launch, torch::Device device) : launch_(std::move(launch)), device_(device) {
  on_failure_ = std::make_shared<const FailureHandler>(
      [this](const std::string& collective, const std::string& reason) { fail(collective, reason); });
}

World::~World() {
  // First the connections: ranks that wait for this one fail now, while they can still ask the store why.
  for (std::unique_ptr<Group>* group : {&all_, &experts_, &replicas_, &control_, &saving_}) group->reset();
  leave();
}

void World::leave() noexcept {
  if (!stores_ || !stores_->roll_call) return;
  const bool wait = first() && !launch_.agent_store;
  done_within(2 * kRollCall, [stores = stores_, own = key("left", rank()), wait, size = size()] {
    stores->roll_call->set(own, std::string("1"));
    if (wait) missing_after(*stores->roll_call, "left", size, kRollCall);
  });
}

std::shared_ptr<World> World::alone() {
  const std::shared_ptr<World> world(new World({}, torch::kCPU));
  world->make_groups({}, kRollCall);
  return world;
}

std::shared_ptr<World> World::join(const Launch& launch, const ParallelConfig& config, torch::Device device) {
  const auto ranks = static_cast<int64_t>(launch.world_size);
  if (ranks % config.expert_parallel_size != 0) {
    throw ConfigError("parallel.expert_parallel_size is " + std::to_string(config.expert_parallel_size) +
                      ", which must divide the number of ranks, " + std::to_string(ranks));
  }
  const std::shared_ptr<World> world(new World(launch, device));
  const milliseconds timeout(static_cast<int64_t>(config.timeout * 1000));
  if (ranks > 1) world->connect(timeout);
  world->make_groups(config, timeout);
  return world;
}

void World::connect(milliseconds timeout) {
  stores_ = std::make_shared<Stores>();
  stores_->main = open_store(launch_, timeout);
  stores_->roll_call = stores_->main->clone();
  stores_->main->set(key("joined", rank()), std::string("1"));
  const std::vector<int> missing = missing_after(*stores_->main, "joined", size(), timeout);
  if (!missing.empty()) {
    throw DistributedError(rank_list(missing) + " of " + std::to_string(size()) + " did not join within " +
                           std::to_string(timeout.count() / 1000) + " s (parallel.timeout)");
  }
  own_address_ = own_address_towards(launch_.address, launch_.port);
}

std::unique_ptr<Group> World::make_group(const std::string& name, const std::vector<int>& ranks, bool on_cuda,
                                         milliseconds timeout) {
  const auto size = static_cast<int>(ranks.size());
  const auto own = static_cast<int>(std::find(ranks.begin(), ranks.end(), rank()) - ranks.begin());
  std::shared_ptr<Engine> engine;
  if (size > 1) {
    const std::string place = name + " of " + rank_list(ranks);
    engine = on_cuda ? make_nccl(stores_->main, place, own, size, timeout)
                     : make_gloo(stores_->main, place, own, size, own_address_, timeout);
  }
  return std::make_unique<Group>(name, own, size, std::move(engine), on_failure_);
}

void World::make_groups(const ParallelConfig& config, milliseconds timeout) {
  const auto share = static_cast<int>(config.expert_parallel_size);
  std::vector<int> all;
  std::vector<int> experts;
  std::vector<int> replicas;
  for (int other = 0; other < size(); ++other) {
    all.push_back(other);
    if (other / share == rank() / share) experts.push_back(other);
    if (other % share == rank() % share) replicas.push_back(other);
  }
  control_ = make_group("control", all, /*on_cuda=*/false, timeout);
  saving_ = make_group("saving", all, /*on_cuda=*/false, timeout);
  all_ = make_group("all ranks", all, device_.is_cuda(), timeout);
  experts_ = make_group("expert-parallel", experts, device_.is_cuda(), timeout);
  replicas_ = make_group("expert replicas", replicas, device_.is_cuda(), timeout);
}

void World::announce_failure(const std::string& reason) noexcept {
  if (!stores_ || !stores_->roll_call) return;
  done_within(kRollCall, [stores = stores_, rank = rank(), reason] {
    stores->roll_call->set(key("failure", rank), reason);
    stores->roll_call->set(key("answer", rank), std::string("1"));
  });
}

void World::fail(const std::string& collective, const std::string& reason) {
  const auto causes = std::make_shared<std::string>();
  const bool asked = done_within(2 * kRollCall, [stores = stores_, causes, rank = rank(), size = size()] {
    c10d::Store& store = *stores->roll_call;
    store.set(key("answer", rank), std::string("1"));
    const std::vector<int> silent = missing_after(store, "answer", size, kRollCall);
    for (int other = 0; other < size; ++other) {
      if (!has_key(store, key("failure", other))) continue;
      *causes += "; rank " + std::to_string(other) + " stopped: " + store.get_to_str(key("failure", other));
    }
    if (!silent.empty()) *causes += "; " + rank_list(silent) + " gave no answer: killed, stopped or stuck";
  });
  std::string why = asked ? *causes : "; rank 0, which holds the store, is gone or out of reach";
  if (!asked && launch_.agent_store) why = "; the launcher's store is gone";
  throw DistributedError("rank " + std::to_string(rank()) + ": the collective " + collective + " failed" + why + " (" +
                         reason.substr(0, reason.find('\n')) + ")");
}

}  // namespace switchyard
