"""FineCLIP on CC2.5M-style data, EVA02-CLIP-B/16 at 224 px. Not measured here."""

_base_ = "_base_/cc2.5m.py"

model_name = "EVA02-B-16"
pretrained = "merged2b_s8b_b131k"

model = dict(clip=dict(name=model_name, pretrained=pretrained))
train_dataloader = dict(dataset=dict(tokenizer=model_name))
val_dataloader = dict(retrieval=dict(dataset=dict(tokenizer=model_name)))
test_dataloader = val_dataloader
