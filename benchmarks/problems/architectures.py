"""Architectures by name, at random weights: own nets, torchvision, timm, transformers, peft.

A name is ``library/model``; ``build(name)`` gives a module in eval mode and some inputs.
"""

from __future__ import annotations

import torch
from torch import nn

CLASSES, ROWS = 5, 4
_SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 40,
    "max_position_embeddings": 32,
    "num_labels": CLASSES,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GPT = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "n_ctx": 32}
_SEQ = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}
_OTHER = {
    "gpt2": _GPT,
    "openai-gpt": _GPT,
    "ctrl": {**_GPT, "dff": 32},
    "bart": _SEQ,
    "mbart": _SEQ,
    "plbart": _SEQ,
    "albert": {"embedding_size": 8},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "electra": {"embedding_size": 8},
    "bloom": {"n_layer": 2, "n_head": 2},
    "falcon": {"new_decoder_architecture": False},
    "mpt": {"d_model": 16, "n_layers": 2, "n_heads": 2},
    "gptj": {**_GPT, "rotary_dim": 4},
    "llama": {"num_key_value_heads": 1},
    "mistral": {"num_key_value_heads": 1},
    "qwen2": {"num_key_value_heads": 1},
    "stablelm": {"num_key_value_heads": 2},
    "xmod": {"default_language": "en_XX"},
    "gemma": {"num_key_value_heads": 1, "head_dim": 8},
    "gemma2": {"num_key_value_heads": 1, "head_dim": 8},
    "phi3": {"num_key_value_heads": 1},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    "xlm": {"emb_dim": 16, "n_layers": 2, "n_heads": 2, "n_words": 40},
    "flaubert": {"emb_dim": 16, "n_layers": 2, "n_heads": 2, "n_words": 40},
    "xlnet": {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32},
    "t5": {
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 32,
        "num_layers": 2,
        "num_heads": 2,
        "decoder_start_token_id": 0,
    },
    "opt": {"ffn_dim": 32, "word_embed_proj_dim": 16},
    "gpt_neo": {
        "num_layers": 2,
        "num_heads": 2,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 4,
    },
    "convbert": {"embedding_size": 16},
    "squeezebert": {
        "embedding_size": 16,
        "q_groups": 1,
        "k_groups": 1,
        "v_groups": 1,
        "post_attention_groups": 1,
        "intermediate_groups": 1,
        "output_groups": 1,
    },
}
_TEXT = [
    "albert",
    "bart",
    "bert",
    "biogpt",
    "bloom",
    "camembert",
    "convbert",
    "ctrl",
    "data2vec-text",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "ernie",
    "falcon",
    "flaubert",
    "fnet",
    "gemma",
    "gemma2",
    "gpt2",
    "gpt_neo",
    "gpt_neox",
    "gptj",
    "layoutlm",
    "llama",
    "mbart",
    "megatron-bert",
    "mistral",
    "mobilebert",
    "mpnet",
    "mpt",
    "nystromformer",
    "openai-gpt",
    "opt",
    "persimmon",
    "phi",
    "phi3",
    "qwen2",
    "rembert",
    "roberta",
    "roberta-prelayernorm",
    "roc_bert",
    "roformer",
    "squeezebert",
    "stablelm",
    "starcoder2",
    "t5",
    "xlm",
    "xlm-roberta",
    "xlnet",
    "xmod",
    "yoso",
]
_TORCHVISION = [
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_v2_s",
    "googlenet",
    "mnasnet0_5",
    "mnasnet0_75",
    "mnasnet1_0",
    "mnasnet1_3",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "regnet_x_1_6gf",
    "regnet_x_400mf",
    "regnet_x_800mf",
    "regnet_y_1_6gf",
    "regnet_y_400mf",
    "regnet_y_800mf",
    "resnet18",
    "resnet34",
    "resnet50",
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5",
    "squeezenet1_0",
    "squeezenet1_1",
    "swin_t",
    "swin_v2_t",
    "maxvit_t",
]
_TIMM = [
    "cait_xxs24_224",
    "coat_lite_tiny",
    "coatnet_nano_rw_224",
    "convit_tiny",
    "convnext_atto",
    "convnext_femto",
    "convnextv2_atto",
    "crossvit_tiny_240",
    "cspresnet50",
    "cs3darknet_s",
    "deit_tiny_patch16_224",
    "deit3_small_patch16_224",
    "densenet121",
    "dla34",
    "dla46_c",
    "dpn48b",
    "edgenext_xx_small",
    "efficientformer_l1",
    "efficientnet_b0",
    "efficientvit_b0",
    "efficientvit_m0",
    "eva02_tiny_patch14_224",
    "fastvit_t8",
    "fbnetc_100",
    "focalnet_tiny_srf",
    "gcresnext26ts",
    "ghostnet_050",
    "ghostnetv2_100",
    "gmixer_12_224",
    "gmlp_ti16_224",
    "halonet26t",
    "hardcorenas_a",
    "haloregnetz_b",
    "hgnetv2_b0",
    "hrnet_w18_small",
    "inception_next_atto",
    "lambda_resnet26t",
    "lcnet_050",
    "levit_128s",
    "mambaout_femto",
    "maxvit_pico_rw_256",
    "mixer_s32_224",
    "mixnet_s",
    "mobileone_s0",
    "mobilenetv3_small_050",
    "mobilenetv4_conv_small",
    "mobilevit_xxs",
    "mobilevitv2_050",
    "mvitv2_tiny",
    "nf_regnet_b0",
    "nfnet_l0",
    "pit_ti_224",
    "poolformer_s12",
    "poolformerv2_s12",
    "pvt_v2_b0",
    "regnetx_002",
    "regnety_002",
    "regnetz_b16",
    "repghostnet_050",
    "repvgg_a0",
    "repvit_m0_9",
    "res2net50_14w_8s",
    "resmlp_12_224",
    "resnest14d",
    "resnet10t",
    "rexnet_100",
    "selecsls42",
    "semnasnet_050",
    "seresnext26t_32x4d",
    "skresnet18",
    "spnasnet_100",
    "starnet_s1",
    "swin_tiny_patch4_window7_224",
    "tinynet_e",
    "tiny_vit_5m_224",
    "twins_svt_small",
    "visformer_tiny",
    "vit_tiny_patch16_224",
    "vovnet39a",
    "xcit_nano_12_p16_224",
]
_PEFT = ("lora", "dora", "rslora", "ia3", "adalora", "loha", "lokr", "vera", "oft", "boft")
_OWN = {
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 9), nn.Tanh(), nn.Linear(9, CLASSES)),
    "conv": lambda: _after(nn.Conv2d(3, 4, 3, padding=1, stride=2)),
    "grouped": lambda: _after(nn.Conv2d(3, 6, 3, groups=3)),
    "dilated": lambda: _after(nn.Conv2d(3, 4, 3, dilation=2)),
    "transposed": lambda: _after(nn.ConvTranspose2d(3, 4, 3)),
    "reflect": lambda: _after(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")),
    "group norm": lambda: _after(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))),
    "batch norm": lambda: _after(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))),
    "instance norm": lambda: _after(nn.InstanceNorm2d(3, affine=True)),
    "prelu": lambda: _after(nn.PReLU(3)),
    "weight norm": lambda: _after(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))),
    "spectral norm": lambda: _after(nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3))),
    "scripted": lambda: torch.jit.script(_after(nn.Conv2d(3, 4, 3))),
    "lstm": lambda: _Sequence(nn.LSTM(24, 6, batch_first=True), 6),
    "gru": lambda: _Sequence(nn.GRU(24, 6, batch_first=True, bidirectional=True), 12),
    "transformer": lambda: _Sequence(nn.TransformerEncoderLayer(24, 4, 16, batch_first=True), 24),
    "time first": lambda: _Sequence(nn.TransformerEncoderLayer(24, 4, 16), 24, time_first=True),
}  # fmt: skip
NAMES = [
    *(f"own/{name}" for name in _OWN), *(f"torchvision/{name}" for name in _TORCHVISION),
    *(f"timm/{name}" for name in _TIMM), *(f"transformers/{name}" for name in _TEXT),
    *(f"peft/{name}" for name in _PEFT),
]  # fmt: skip


def _after(layer):
    width = layer(torch.randn(1, 3, 8, 8)).flatten(1).shape[1]
    return nn.Sequential(layer, nn.Tanh(), nn.Flatten(), nn.Linear(width, CLASSES)).eval()


class _Sequence(nn.Module):
    """A layer of sequences on the eight lines of an image."""

    def __init__(self, layer, width, time_first=False):
        super().__init__()
        self.layer, self.head, self.time_first = layer, nn.Linear(width, CLASSES), time_first

    def forward(self, x):
        x = x.transpose(1, 2).flatten(2)
        x = self.layer(x.transpose(0, 1) if self.time_first else x)
        x = x[0] if isinstance(x, tuple) else x
        return self.head(x.mean(0 if self.time_first else 1))


def build(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A module in eval mode and its inputs: images, or tokens."""
    library, _, model = name.partition("/")
    torch.manual_seed(0)
    if library == "own":
        return _OWN[model]().eval(), torch.randn(ROWS, 3, 8, 8)
    if library in ("transformers", "peft"):
        module = _text("bert" if library == "peft" else model)
        module = _adapted(module, model) if library == "peft" else module
        tokens = torch.randint(3, 40, (ROWS, 16))
        tokens[:, -1] = 2  # the end, where encoder-decoders read their class
        return _awake(module), tokens
    module, size = (_torchvision if library == "torchvision" else _timm)(model)
    return _awake(module), torch.randn(ROWS, 3, size, size)


def _awake(module):
    """Zero parameters (gates, adapters) moved off zero, so that every gradient counts."""
    with torch.no_grad():
        for p in module.parameters():
            if (
                p.requires_grad
                and p.is_floating_point()
                and p.numel()
                and float(p.abs().max()) < 1e-3
            ):
                p.normal_(std=0.05)
    return module.eval()


def _torchvision(model):
    import torchvision

    sizes = {"maxvit_t": 224}
    extra = {"googlenet": {"aux_logits": False, "init_weights": False}}.get(model, {})
    return torchvision.models.get_model(model, num_classes=CLASSES, **extra), sizes.get(model, 64)


def _timm(model):
    import timm

    fixed = timm.create_model(model, num_classes=CLASSES)
    sized = ("_224", "_240", "_256", "vit_", "coat", "levit", "efficientformer", "halo")
    convolves = not any(part in model for part in sized)
    return fixed, 64 if convolves else fixed.default_cfg["input_size"][-1]


def _text(model):
    import transformers

    config, own = transformers.AutoConfig.for_model(model), _OTHER.get(model, {})
    fixed = ("max_position_embeddings",) if model == "xlnet" else ()
    sizes = {k: v for k, v in _SIZES.items() if k not in fixed and hasattr(config, k)}
    config = type(config)(**{**sizes, "num_labels": CLASSES, "pad_token_id": 0, **own})
    return transformers.AutoModelForSequenceClassification.from_config(config)


def _adapted(module, method):
    import peft

    where = {"target_modules": ["query", "value"]}
    configs = {
        "lora": lambda: peft.LoraConfig(r=4, **where),
        "vera": lambda: peft.VeraConfig(r=4, **where),
        "dora": lambda: peft.LoraConfig(r=4, use_dora=True, **where),
        "rslora": lambda: peft.LoraConfig(r=4, use_rslora=True, **where),
        "ia3": lambda: peft.IA3Config(feedforward_modules=[], **where),
        "adalora": lambda: peft.AdaLoraConfig(init_r=4, total_step=10, **where),
        "loha": lambda: peft.LoHaConfig(r=4, **where),
        "lokr": lambda: peft.LoKrConfig(r=4, **where),
        "oft": lambda: peft.OFTConfig(r=0, oft_block_size=4, **where),
        "boft": lambda: peft.BOFTConfig(boft_block_size=4, **where),
    }
    return peft.get_peft_model(module, configs[method]())
