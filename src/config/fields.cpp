#include "config/fields.h"

#include <limits>

#include "config/field_makers.h"
#include "config/fields_model.h"

namespace switchyard {
namespace {

Fields run_fields(RunConfig& c) {
  return {
      text(
          "dir", c.dir,
          "Folder that the run writes to, relative to the working directory or, with '~/', to the home folder; must be "
          "new or empty.",
          TextRule::kFolder),
      integer("seed", c.seed, {0, std::numeric_limits<int64_t>::max()},
              "Seed of everything random: initialisation, data order, dropout, sampling."),
  };
}

Fields source_fields(SourceConfig& c) {
  return {
      text("name", c.name, "Name of the domain in logs and evaluations.", TextRule::kSourceName, {.required = true}),
      make("files", GlobListValue{&c.files},
           "Globs of text files; relative ones start at the folder of the file that names them, '~/' at the home "
           "folder.",
           {.required = true}),
      real("weight", c.weight, {0, 1e9}, "Share of the training windows, relative to the other sources' weights."),
      choice<DocumentRule>("documents", c.documents, {{"file", DocumentRule::kFile}, {"entry", DocumentRule::kEntry}},
                           "What a document is: a whole file, or an entry of a dictionary-like file."),
      choice<TextEncoding>(
          "encoding", c.encoding,
          {{"utf-8", TextEncoding::kUtf8}, {"latin-1", TextEncoding::kLatin1}, {"bytes", TextEncoding::kBytes}},
          "What the files hold: text in UTF-8 (other files are refused) or in Latin-1, or any bytes, taken as they "
          "are."),
      text("modality", c.modality, "What its tokens stand for, such as text or image; routing is reported by modality.",
           TextRule::kSourceName),
  };
}

Fields data_fields(DataConfig& c) {
  SectionListValue sources;
  sources.size = [&c] { return c.sources.size(); };
  sources.resize = [&c](size_t size) { c.sources.resize(size); };
  sources.fields = [&c](size_t index) { return source_fields(c.sources[index]); };
  return {
      text("tokenizer", c.tokenizer,
           "byte, char, sentencepiece (trained on the sources to model.vocab_size), or one that exists: "
           "sentencepiece:FILE for a model, huggingface:FILE for a tokenizer.json.",
           TextRule::kTokenizer),
      make("sources", std::move(sources), "Named text domains.", {}),
      real("validation_fraction", c.validation_fraction, {0, 0.5, true}, "Share of the documents kept for validation."),
      text("cache_dir", c.cache_dir,
           "Folder for tokenizers and token shards, relative to the working directory or, with '~/', to the home "
           "folder; runs share it.",
           TextRule::kFolder),
      integer("tokenizer_sample_bytes", c.tokenizer_sample_bytes, {1024, int64_t{1} << 36},
              "Text that a sentencepiece tokenizer is trained on.", {.unit = "bytes"}),
  };
}

Fields spike_fields(SpikeConfig& c) {
  return {
      choice<SpikeAction>("action", c.action,
                          {{"off", SpikeAction::kOff}, {"warn", SpikeAction::kWarn}, {"skip", SpikeAction::kSkip}},
                          "What to do with a step whose loss is far above the recent ones: nothing, warn, or skip its "
                          "update."),
      real("threshold", c.threshold, kPositive, "How far above the window's mean loss a spike is.",
           {.unit = "standard deviations"}),
      integer("window", c.window, {2, 1'000'000}, "Number of recent losses to compare with.", {.unit = "steps"}),
  };
}

Fields training_fields(TrainingConfig& c) {
  return {
      integer("max_steps", c.max_steps, {1, kMostSteps}, "Length of the run.", {.unit = "optimizer steps"}),
      integer("seq_length", c.seq_length, {1, kMostSequences}, "Length of a training sequence.", {.unit = "tokens"}),
      integer("micro_batch_size", c.micro_batch_size, {1, kMostSequences}, "Sequences in one forward pass of one rank.",
              {.unit = "sequences"}),
      integer("global_batch_size", c.global_batch_size, {1, kMostSequences},
              "Sequences in one optimizer step, over all ranks and accumulation steps; a multiple of "
              "micro_batch_size.",
              {.unit = "sequences", .fallback = "micro_batch_size"}),
      choice<Precision>("precision", c.precision,
                        {{"fp32", Precision::kFp32}, {"bf16", Precision::kBf16}, {"fp64", Precision::kFp64}},
                        "Type of the compute; weights, router, losses and reductions are fp32 in fp32 and bf16. fp64: "
                        "everything in double precision, slow, for comparisons."),
      choice<DeviceKind>("device", c.device,
                         {{"auto", DeviceKind::kAuto}, {"cpu", DeviceKind::kCpu}, {"cuda", DeviceKind::kCuda}},
                         "Where to compute; auto: a GPU if there is one."),
      choice<Recompute>("recompute", c.recompute,
                        {{"none", Recompute::kNone}, {"selective", Recompute::kSelective}, {"full", Recompute::kFull}},
                        "Values of the forward pass that are computed again in the backward pass instead of being "
                        "kept, which takes time and changes no result. selective: what feed-forwards (experts, shared "
                        "and dense ones) hold between their products. full: all of every block but its input."),
      integer("num_threads", c.num_threads, {0, 1024},
              "CPU threads; 0: OMP_NUM_THREADS where that is set, else one per core that may be used."),
      integer("log_interval", c.log_interval, {1, kMostSteps}, "Between two train lines and their routing lines.",
              {.unit = "steps"}),
      section("spike", spike_fields(c.spike), "Guard against loss spikes."),
  };
}

Fields optimizer_fields(OptimizerConfig& c) {
  return {
      real("lr", c.lr, {0, 1e6}, "Peak learning rate of AdamW."),
      real("weight_decay", c.weight_decay, {0, 1e6},
           "Decoupled weight decay, on matrices only: embeddings, routers and slot vectors are some, norms and biases "
           "not."),
      real("beta1", c.beta1, kBelowOne, "Decay of the gradient's running mean."),
      real("beta2", c.beta2, kBelowOne, "Decay of the squared gradient's running mean."),
      real("eps", c.eps, {0, 1, true}, "Added to the denominator of the update."),
      real("grad_clip", c.grad_clip, {0, 1e9}, "Largest L2 norm of the whole gradient; 0: no clipping."),
  };
}

Fields schedule_fields(ScheduleConfig& c) {
  return {
      choice<ScheduleType>("type", c.type,
                           {{"cosine", ScheduleType::kCosine},
                            {"linear", ScheduleType::kLinear},
                            {"constant", ScheduleType::kConstant},
                            {"wsd", ScheduleType::kWsd}},
                           "Shape after the warm-up: cosine or linear decay to min_lr, constant, or wsd (constant, "
                           "then a linear decay at the end)."),
      integer("warmup_steps", c.warmup_steps, {0, kMostSteps}, "Linear warm-up from zero.", {.unit = "steps"}),
      real("min_lr", c.min_lr, {0, 1e6}, "Learning rate at the end of the decay; at most optimizer.lr."),
      integer("decay_steps", c.decay_steps, {1, kMostSteps},
              "cosine, linear: the step at which min_lr is reached. wsd: length of the final decay.",
              {.unit = "steps", .fallback = "training.max_steps; for wsd a fifth of it"}),
  };
}

Fields eval_fields(EvalConfig& c) {
  return {
      integer("interval", c.interval, {0, kMostSteps}, "Between two evaluations; 0: only at the end.",
              {.unit = "steps"}),
      integer("batches", c.batches, {0, kMostSteps}, "Batches per domain; 0: all of the validation data.",
              {.unit = "batches of micro_batch_size sequences"}),
  };
}

Fields checkpoint_fields(CheckpointConfig& c) {
  return {
      integer("interval", c.interval, {0, kMostSteps}, "Between two checkpoints; 0: only at the end.",
              {.unit = "steps"}),
      integer("keep_last", c.keep_last, {0, 1'000'000},
              "Newest checkpoints to keep; 0: all. An old one goes only after a new one is complete."),
      flag("background", c.background, "Write checkpoints while training goes on, from a copy of the tensors."),
  };
}

Fields parallel_fields(ParallelConfig& c) {
  return {
      integer("expert_parallel_size", c.expert_parallel_size, {1, kMostExperts},
              "Ranks that share the experts of a layer; divides moe.num_experts."),
      flag("distributed_optimizer", c.distributed_optimizer,
           "Spread the optimizer state over the ranks; with one process there is nothing to spread."),
      real("timeout", c.timeout, {1, 1e6}, "Time without an answer after which a rank counts as lost.",
           {.unit = "seconds"}),
      integer("bucket_megabytes", c.bucket_megabytes, {1, 4096},
              "Size of the buckets of gradients that are reduced while the backward pass goes on.", {.unit = "MB"}),
  };
}

Fields alarm_fields(AlarmConfig& c) {
  return {
      choice<AlarmAction>("action", c.action,
                          {{"off", AlarmAction::kOff}, {"warn", AlarmAction::kWarn}, {"stop", AlarmAction::kStop}},
                          "What a collapse of routing does: nothing, a warning, or the end of the run after saving."),
      real("load_share", c.load_share, {0, 1},
           "Collapsed: one expert's share of the tokens has come so far from the fair one (0) to all of them (1)."),
      real("dead_share", c.dead_share, {0, 1}, "Collapsed: this share of the experts is dead, or more."),
      integer("patience", c.patience, {1, kMostSteps}, "For so many logged steps in a row.", {.unit = "logged steps"}),
  };
}

Fields metrics_fields(MetricsConfig& c) {
  return {
      flag("tensorboard", c.tensorboard, "Write TensorBoard events into the run folder."),
      integer("dead_expert_window", c.dead_expert_window, {1, kMostSteps},
              "Steps without a token after which an expert counts as dead.", {.unit = "steps"}),
      section("alarm", alarm_fields(c.alarm), "When the routers of a layer count as collapsed."),
  };
}

}  // namespace

Fields fields_of(Config& c) {
  return {
      section("run", run_fields(c.run), "The run itself."),
      section("model", model_fields(c.model), "Architecture of the transformer."),
      optional_section("moe", c.moe, moe_fields, "The mixture of experts. Left out or null: a dense model."),
      optional_section("mixture_of_depths", c.mixture_of_depths, mixture_of_depths_fields,
                       "Layers that only some tokens pass through (Raposo et al. 2024). Left out or null: none."),
      section("data", data_fields(c.data), "Where text comes from and how it becomes tokens."),
      section("training", training_fields(c.training), "Length, batch sizes and arithmetic of the training."),
      section("optimizer", optimizer_fields(c.optimizer), "AdamW and gradient clipping."),
      section("schedule", schedule_fields(c.schedule), "The learning rate over the steps."),
      section("eval", eval_fields(c.eval), "Evaluation during training."),
      section("checkpoint", checkpoint_fields(c.checkpoint), "Saving."),
      section("parallel", parallel_fields(c.parallel), "Several ranks."),
      section("metrics", metrics_fields(c.metrics), "What is recorded."),
  };
}

Config config_with_every_section() {
  Config config;
  config.moe.emplace();
  config.mixture_of_depths.emplace();
  config.model.latent_attention.emplace();
  config.data.sources.resize(1);
  return config;
}

}  // namespace switchyard
