"""How a pretraining step can be taken, and what it trains: what the benchmark measures."""

MODES = {
    "plain": "shared trunk, trimmed text, packed crops: all activations are kept",
    "chunked": "the same, encoded chunk by chunk and once more in the backward pass",
    "auto": "the same, what fits into the memory budget kept, the rest recomputed",
    "checkpointing": "plain, every transformer block recomputed in the backward pass",
    "detach_teacher": "plain, crops are a fixed target of the self-distillation",
    "unfused": "plain, the optimizer makes a pass over the weights per operation",
    "compiled": "plain, transformer blocks through torch.compile",
    "chunked_compiled": "chunked, transformer blocks through torch.compile",
    "padded": "image encoded twice, crops padded to the box limit, texts to the full context",
}

METHODS = {
    "fineclip": "captions, regions against their captions, regions against their crops",
    "clip": "images against captions",
    "regionclip": "labelled regions against the names of classes, no crops",
    "clipself": "regions against the crops that a frozen copy of the start weights sees",
}
