"""Region-text data as FineCLIP's CC2.5M was made: 2.5 M images of CC3M with 10.4 M captioned boxes.

    python tools/annotate_regions.py cc3m/ data/cc2.5m_shards --config configs/annotation/cc2.5m.py

Neither the data nor the program that made them were published. "paper" marks what FineCLIP (NeurIPS
2024) and its reviews say: boxes of YOLOv9 (4.5 hours on 8 A800); images without a box left out,
then those of low resolution, by their number of pixels; every crop described by BLIP-2, 6.7B, tuned
on COCO (12.5 hours). "unknown" marks what they do not say; the value is ours, and why. Other models
are a word on the command line: --proposer hf:PekingU/rtdetr_r50vd --captioner openai:URL,MODEL.
"""

# ---- Boxes.
# The library publishes a pickle, which is never loaded; docs/annotation.md says how to convert it.
proposer = "ultralytics:yolov9e.yaml,yolov9e.safetensors"  # paper: YOLOv9. Unknown: which size
proposer_options = dict()
min_score = 0.25  # unknown; what YOLOv9's own detection takes
nms_iou = 0.45  # unknown; the same
min_box_area = 8 * 8  # unknown here; FineCLIP's training leaves out smaller boxes (its release)
max_box_area = 1024 * 1024  # likewise, larger ones
min_box_side = 1.0  # ours: narrower boxes have no pixel
max_boxes = 20  # unknown; FineCLIP's training takes 20 of an image at most; 4.2 on average (paper)
proposer_batch = 32  # changes no result

# ---- Captions of boxes.
captioner = "hf:Salesforce/blip2-opt-6.7b-coco"  # paper: BLIP-2, 6.7B, tuned on COCO
captioner_options = dict()  # unknown: prompt and search; the model's own are taken
crop_scale = 1.0  # unknown; the paper speaks of crops of the boxes
captioner_batch = 64  # changes no result

# ---- Images.
min_pixels = 224 * 224  # paper: by the number of pixels. Unknown: how many; the training's input
max_aspect = 10.0  # unknown whether there was a limit; ours leaves out banners
max_unsafe = 0.5  # ours; CC3M has no such metadata
duplicates = "near"  # unknown; training on images twice helps nobody
max_images_per_caption = None  # unknown; CC3M repeats few captions

# ---- Captions of images.
require_captions = True  # the training needs them
min_words = 1  # unknown; CC3M was filtered when it was made
max_words = 256  # ours; the text tower reads 77 tokens
max_characters = 2000  # ours
blocked_words = []  # ours

# ---- Shards.
shard_size = 1000  # ours: of a folder of images; what a kill costs at most
gpus_per_worker = None  # ours: 1 where there are GPUs
