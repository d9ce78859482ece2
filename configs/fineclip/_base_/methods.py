"""What each method trains: its objectives, and what they need of the data set and the model.

A run chooses one with --cfg-options method=NAME. All else stays the same: runs of one config
compare methods. A new method is one more entry.
"""

method = "fineclip"

image_size = ...
vocabulary = ...  # nouns of the methods that classify regions: a name, or a JSON file
templates = "vild"  # prompts of the nouns
trainable = ("image", "logit_scale")  # unless the method trains less
unlocked_groups = None  # last blocks of the image tower that train; None: all of the tower
alpha = 1.0  # share of the trained weights in what is saved and evaluated; the rest is the start's
restart_logits = True  # sigmoids: start from SigLIP's scale and bias, not those of the weights
contrast = "views"  # silc: text against each global view; or "image": against the plain image
momentum = 0.996  # silc: share of itself that the teacher keeps at every step
frozen_prototype_epochs = 1  # silc: in which the head's last layer stands still
num_prototypes = 65536  # silc: head and views are DINO's
prototype_hidden = 2048
prototype_width = 256
num_local = 6
local_size = 96

sigmoid_logits = [dict(type="InitialLogitsHook")] if restart_logits else []
global_contrast = dict(type="GlobalContrastive")
region_contrast = dict(type="RegionContrastive")
distillation = dict(type="SelfDistillation")
hooks = [dict(type="ClampLogitScaleHook"), dict(type="SkippedSamplesHook")]
captioned = dict(fields=("texts",))
local_to_global = dict(type="LocalToGlobalDistillation", num_prototypes=num_prototypes)
prototype_head = dict(
    num_prototypes=num_prototypes,
    hidden_dim=prototype_hidden,
    bottleneck_dim=prototype_width,
)
views = dict(num_global=2, num_local=num_local, global_size=image_size, local_size=local_size)
averaged_teacher = [
    dict(type="EMATeacherHook", momentum=momentum),
    dict(type="FrozenPrototypesHook", epochs=frozen_prototype_epochs),
]

# model: arguments of FineCLIPPretrainer; dataset: of RegionTextDataset (no fields: all of them).
methods = {
    # FineCLIP (Jing et al., NeurIPS 2024): L_GC + L_RC + L_SD.
    "fineclip": dict(model=dict(objectives=[global_contrast, region_contrast, distillation])),
    # The rows of its ablation: L_GC, L_RC, L_SD (which collapses), L_GC + L_SD.
    "clip": dict(
        model=dict(objectives=[global_contrast]),
        dataset=dict(fields=("texts",)),
    ),
    "rc": dict(
        model=dict(objectives=[region_contrast]),
        dataset=dict(fields=("boxes", "region_texts")),
    ),
    "sd": dict(
        model=dict(objectives=[distillation]),
        dataset=dict(fields=("boxes", "crops")),
    ),
    "gc-sd": dict(
        model=dict(objectives=[global_contrast, distillation]),
        dataset=dict(fields=("texts", "boxes", "crops")),
    ),
    # CLIPSelf (Wu et al., ICLR 2024): regions imitate crops seen by the start weights. As in
    # FineCLIP's table, data and schedule are those of all methods and regions are proposals;
    # CLIPSelf's own recipe is configs/clipself.
    "clipself": dict(
        model=dict(objectives=[dict(type="CLIPSelfDistillation")], trainable=("image",)),
        dataset=dict(fields=("boxes", "crops")),
    ),
    # RegionCLIP (Zhong et al., CVPR 2022) as the baseline of CLIPSelf's and FineCLIP's releases:
    # binary cross entropy over 100 sampled nouns. Their 4 764 nouns of COCO captions and their
    # boxes were not published: here the nouns are `vocabulary`, and each box is labelled by the
    # start weights with the noun nearest to its crop.
    "regionclip": dict(
        model=dict(
            objectives=[dict(type="RegionCLIPLoss", num_sampled=100)],
            trainable=("image",),
            vocabulary=vocabulary,
            templates=templates,
        ),
        dataset=dict(fields=("boxes", "crops")),
    ),
    # RegionCLIP as its authors train it, beside the baseline above: KL distillation of the start
    # weights' concept probabilities, region-concept contrast, and the image-text level.
    "regionclip-concepts": dict(
        model=dict(
            objectives=[global_contrast, dict(type="RegionConceptMatching")],
            vocabulary=vocabulary,
            templates=templates,
        ),
        dataset=dict(fields=("texts", "boxes", "crops")),
    ),
    # FILIP (Yao et al., ICLR 2022), SPARC (Bica et al., ICML 2024), PACL (Mukhoti et al., CVPR
    # 2023), GLoRIA (Huang et al., ICCV 2021), MGCA (Wang et al., NeurIPS 2022): captions against
    # patches. PACL's factor is that of public code; without one it is nearly a mean pool.
    "filip": dict(model=dict(objectives=[dict(type="FILIP")]), dataset=captioned),
    "sparc": dict(model=dict(objectives=[dict(type="SPARC")]), dataset=captioned),
    "pacl": dict(model=dict(objectives=[dict(type="PACL", factor=10.0)]), dataset=captioned),
    "gloria": dict(model=dict(objectives=[dict(type="GLoRIA")]), dataset=captioned),
    "mgca": dict(model=dict(objectives=[dict(type="MGCA")]), dataset=captioned),
    # SILC (Naeem et al., ECCV 2024): captions against global views, and local views that predict
    # an averaged teacher's global views. Trained there from scratch, with softmax or sigmoid.
    "silc": dict(
        model=dict(
            objectives=[
                dict(views=dict(type="ViewContrastive"), image=global_contrast)[contrast],
                local_to_global,
            ],
            prototype_head=prototype_head,
        ),
        dataset=dict(fields=("texts",), views=views),
        hooks=[*hooks, *averaged_teacher],
    ),
    "siglip-silc": dict(
        model=dict(
            objectives=[
                dict(
                    views=dict(type="SigmoidViewContrastive"),
                    image=dict(type="SigmoidGlobalContrastive"),
                )[contrast],
                local_to_global,
            ],
            prototype_head=prototype_head,
            clip=dict(init_logit_bias=-10.0),
        ),
        dataset=dict(fields=("texts",), views=views),
        hooks=[*sigmoid_logits, *hooks, *averaged_teacher],
    ),
    # FineCLIP with SigLIP's sigmoids (Zhai et al., ICCV 2023) in place of both softmaxes; not in
    # the paper. Published softmax weights come with a scale of 100 and no bias.
    "siglip-fineclip": dict(
        model=dict(
            objectives=[
                dict(type="SigmoidGlobalContrastive"),
                dict(type="SigmoidRegionContrastive"),
                distillation,
            ],
            clip=dict(init_logit_bias=-10.0),
        ),
        hooks=[*sigmoid_logits, *hooks],
    ),
}

if method not in methods:
    raise ValueError(f"unknown method {method!r}; known: {', '.join(methods)}")

model = {
    "trainable": trainable,
    "unlocked_groups": unlocked_groups,
    **methods[method]["model"],
}
train_dataloader = dict(dataset=methods[method].get("dataset", {}))
custom_hooks = list(methods[method].get("hooks", hooks))
if alpha < 1:
    custom_hooks.append(dict(type="MixedWeightsHook", alpha=alpha))

del methods, hooks, global_contrast, region_contrast, distillation, captioned, views
del sigmoid_logits, local_to_global, prototype_head, averaged_teacher
