#include "parallel/launch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/errors.h"

namespace switchyard {
namespace {

using testing::HasSubstr;

Environment environment_of(std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  };
}

Launch launch_of(std::map<std::string, std::string> variables) {
  return read_launch(environment_of(std::move(variables)));
}

std::string error_of(std::map<std::string, std::string> variables) {
  try {
    launch_of(std::move(variables));
  } catch (const DistributedError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Launch, NothingSetIsOneProcess) {
  const Launch launch = launch_of({});
  EXPECT_EQ(launch.launcher, "none");
  EXPECT_EQ(launch.world_size, 1);
  // A batch script of Slurm has SLURM_PROCID as well; MASTER_ADDR alone starts nothing.
  EXPECT_EQ(launch_of({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}, {"MASTER_ADDR", "host"}}).world_size, 1);
}

TEST(Launch, Torchrun) {
  const Launch launch = launch_of({{"RANK", "5"},
                                   {"WORLD_SIZE", "8"},
                                   {"LOCAL_RANK", "1"},
                                   {"LOCAL_WORLD_SIZE", "4"},
                                   {"MASTER_ADDR", "10.0.0.7"},
                                   {"MASTER_PORT", "1234"},
                                   {"TORCHELASTIC_RUN_ID", "job"},
                                   {"TORCHELASTIC_RESTART_COUNT", "2"},
                                   {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                                   {"SLURM_PROCID", "1"},
                                   {"SLURM_NTASKS", "2"},
                                   {"SLURM_STEP_ID", "0"}});
  EXPECT_EQ(launch.launcher, "torchrun");
  EXPECT_EQ(launch.rank, 5);
  EXPECT_EQ(launch.world_size, 8);
  EXPECT_EQ(launch.local_rank, 1);
  EXPECT_EQ(launch.local_world_size, 4);
  EXPECT_EQ(launch.address, "10.0.0.7");
  EXPECT_EQ(launch.port, 1234);
  EXPECT_TRUE(launch.agent_store);
  EXPECT_EQ(launch.run_id, "job");
  EXPECT_EQ(launch.job, "job");
  EXPECT_EQ(launch_of({{"SLURM_JOB_ID", "17"}, {"SLURM_RESTART_COUNT", "1"}}).job, "17");
  EXPECT_EQ(launch.restarts, 2);
}

TEST(Launch, RanksByHandAreOnOneMachineAtTheDefaultPort) {
  const Launch launch = launch_of({{"RANK", "1"}, {"WORLD_SIZE", "2"}});
  EXPECT_EQ(launch.local_rank, 1);
  EXPECT_EQ(launch.local_world_size, 2);
  EXPECT_EQ(launch.address, "127.0.0.1");
  EXPECT_EQ(launch.port, 29500);
  EXPECT_FALSE(launch.agent_store);
}

TEST(Launch, Mpirun) {
  std::map<std::string, std::string> variables = {{"OMPI_COMM_WORLD_RANK", "3"},
                                                  {"OMPI_COMM_WORLD_SIZE", "4"},
                                                  {"OMPI_COMM_WORLD_LOCAL_RANK", "3"},
                                                  {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                                                  {"PMIX_NAMESPACE", "12345"}};
  const Launch launch = launch_of(variables);
  EXPECT_EQ(launch.launcher, "mpirun");
  EXPECT_EQ(launch.rank, 3);
  EXPECT_EQ(launch.local_world_size, 4);
  EXPECT_EQ(launch.address, "127.0.0.1");
  EXPECT_GE(launch.port, 10000);
  EXPECT_LT(launch.port, 30000);
  variables["OMPI_COMM_WORLD_LOCAL_RANK"] = "1";
  variables["OMPI_COMM_WORLD_LOCAL_SIZE"] = "2";
  EXPECT_THAT(error_of(variables), HasSubstr("several machines (2 of 4 here): set MASTER_ADDR"));
  variables["MASTER_ADDR"] = "first";
  EXPECT_EQ(launch_of(variables).address, "first");
}

TEST(Launch, SrunNamesTheFirstNode) {
  const Launch launch = launch_of({{"SLURM_PROCID", "6"},
                                   {"SLURM_NTASKS", "8"},
                                   {"SLURM_LOCALID", "2"},
                                   {"SLURM_NNODES", "2"},
                                   {"SLURM_STEP_ID", "0"},
                                   {"SLURM_JOB_ID", "77"},
                                   {"SLURM_JOB_NODELIST", "gpu[07-08]"}});
  EXPECT_EQ(launch.launcher, "srun");
  EXPECT_EQ(launch.rank, 6);
  EXPECT_EQ(launch.local_rank, 2);
  EXPECT_EQ(launch.local_world_size, 4);
  EXPECT_EQ(launch.address, "gpu07");
}

TEST(Launch, NodeLists) {
  EXPECT_EQ(first_slurm_host("gpu[07-09,12],login"), "gpu07");
  EXPECT_EQ(first_slurm_host("a,b"), "a");
  EXPECT_EQ(first_slurm_host("alone"), "alone");
  EXPECT_EQ(first_slurm_host("n[3,5]"), "n3");
  EXPECT_THROW(first_slurm_host("n[3"), DistributedError);
  EXPECT_THROW(first_slurm_host(""), DistributedError);
}

TEST(Launch, Pmi) {
  const Launch launch = launch_of({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}});
  EXPECT_EQ(launch.launcher, "pmi");
  EXPECT_EQ(launch.rank, 1);
}

TEST(Launch, ContradictionsAreNamed) {
  EXPECT_THAT(error_of({{"RANK", "2"}, {"WORLD_SIZE", "2"}}), HasSubstr("RANK is 2 and WORLD_SIZE is 2"));
  EXPECT_THAT(error_of({{"RANK", "0"}}), HasSubstr("RANK is set, but WORLD_SIZE is not"));
  EXPECT_THAT(error_of({{"WORLD_SIZE", "2"}}), HasSubstr("WORLD_SIZE is set, but RANK is not"));
  EXPECT_THAT(error_of({{"RANK", "one"}, {"WORLD_SIZE", "2"}}), HasSubstr("RANK is 'one': it must be a whole number"));
  EXPECT_THAT(error_of({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "3"}, {"LOCAL_WORLD_SIZE", "2"}}),
              HasSubstr("LOCAL_RANK is 3 and LOCAL_WORLD_SIZE is 2"));
  EXPECT_THAT(error_of({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "0"}, {"LOCAL_WORLD_SIZE", "4"}}),
              HasSubstr("a machine cannot hold more ranks than there are"));
  EXPECT_THAT(
      error_of({{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "2"}}),
      HasSubstr("WORLD_SIZE is 1 and OMPI_COMM_WORLD_SIZE is 2"));
  EXPECT_THAT(error_of({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "0"}}), HasSubstr("MASTER_PORT is '0'"));
}

}  // namespace
}  // namespace switchyard
