#include "config/other_names.h"

#include <algorithm>

namespace switchyard {

const std::vector<OtherNames>& other_names() {
  static const std::vector<OtherNames> kNames = {
      {"run.dir", {"out_dir", "output_dir", "save_dir"}},
      {"model.hidden_size", {"d_model", "dim", "embed_dim", "hidden_dim", "n_embd"}},
      {"model.num_layers", {"depth", "n_layer", "n_layers", "num_hidden_layers"}},
      {"model.num_attention_heads", {"n_head", "n_heads", "num_heads"}},
      {"model.num_key_value_heads", {"n_kv_heads", "num_kv_heads", "num_query_groups"}},
      {"model.intermediate_size", {"d_ff", "ffn_dim", "ffn_hidden_size", "n_inner"}},
      {"model.activation", {"activation_function", "hidden_act"}},
      {"model.norm_eps", {"layer_norm_epsilon", "norm_epsilon", "rms_norm_eps"}},
      {"model.dropout", {"attention_dropout", "hidden_dropout", "resid_pdrop"}},
      {"model.init_std", {"initializer_range"}},
      {"moe.num_experts", {"n_experts", "n_routed_experts", "num_local_experts"}},
      {"moe.top_k", {"experts_per_token", "num_experts_per_tok", "num_experts_per_token", "topk"}},
      {"moe.intermediate_size", {"moe_intermediate_size", "expert_hidden_size"}},
      {"moe.num_shared_experts", {"n_shared_experts"}},
      {"moe.aux_loss_coeff",
       {"aux_loss_alpha", "aux_loss_weight", "load_balancing_coeff", "moe_aux_loss_coeff", "router_aux_loss_coef"}},
      {"moe.z_loss_coeff", {"moe_z_loss_coeff", "router_z_loss_coef"}},
      {"moe.router.jitter", {"jitter_eps", "jitter_noise", "router_jitter_noise"}},
      {"data.sources", {"data_path", "dataset", "datasets", "train_data", "train_files"}},
      {"training.max_steps",
       {"epochs", "iterations", "max_iters", "num_epochs", "num_steps", "num_train_epochs", "steps", "train_iters",
        "train_steps"}},
      {"training.seq_length",
       {"block_size", "context_length", "max_position_embeddings", "max_seq_len", "max_seq_length", "n_positions",
        "seq_len", "sequence_length"}},
      {"training.micro_batch_size", {"per_device_train_batch_size", "train_batch_size"}},
      {"training.global_batch_size", {"batch_size", "grad_accum_steps", "gradient_accumulation_steps"}},
      {"training.precision", {"amp", "bf16", "dtype", "fp16", "mixed_precision", "torch_dtype"}},
      {"training.recompute", {"activation_checkpointing", "gradient_checkpointing"}},
      {"training.log_interval", {"log_every", "logging_steps"}},
      {"optimizer.lr", {"base_lr", "learning_rate", "max_lr", "peak_lr"}},
      {"optimizer.beta1", {"adam_beta1", "betas"}},
      {"optimizer.beta2", {"adam_beta2"}},
      {"optimizer.eps", {"adam_eps", "adam_epsilon", "epsilon"}},
      {"optimizer.grad_clip", {"clip_grad", "gradient_clipping", "max_grad_norm"}},
      {"schedule.type", {"lr_decay_style", "lr_scheduler", "lr_scheduler_type"}},
      {"schedule.warmup_steps", {"lr_warmup_iters", "num_warmup_steps", "warmup", "warmup_iters"}},
      {"schedule.min_lr", {"min_learning_rate"}},
      {"eval.interval", {"eval_every", "eval_interval", "eval_steps"}},
      {"checkpoint.interval", {"save_every", "save_interval", "save_steps"}},
      {"checkpoint.keep_last", {"save_total_limit"}},
  };
  return kNames;
}

std::string key_called(std::string_view word) {
  for (const OtherNames& one : other_names()) {
    if (std::find(one.names.begin(), one.names.end(), word) != one.names.end()) return one.key;
  }
  return "";
}

}  // namespace switchyard
