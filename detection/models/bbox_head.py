"""Box head whose classifier is text: cosine with class embeddings, fused with CLIP's own view."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from mmdet.registry import MODELS
from mmdet.utils import ConfigType
from mmengine.structures import InstanceData
from torch import Tensor, nn

from detection.models.best_boxes import best_boxes
from detection.models.class_embeddings import EmbeddingSource, class_indices, head_embeddings
from fineclip.parallel import share_of_rows
from fineclip.text import Vocabulary, as_vocabulary

_ABSENT = -1e4  # logit of a class that takes no part: finite, for the sigmoid form of the loss


@MODELS.register_module()
class FViTBBoxHead(ConvFCBBoxHead):
    """mmdet's convolutional box head with a text classifier instead of ``fc_cls``.

    K classes, background last; D is the width of the class branch and of the text embeddings
    t_c (unit vectors). With f the class feature (it has passed a ReLU) and v CLIP's feature of
    the same box, the head's logits and, at test time, its scores are (F-VLM, eqs. 1 and 2, as in
    F-ViT)::

        logit_c = temperature * cos(f, t_c)               p = softmax(logit)
        q = softmax(vlm_temperature * cos(v, t))
        score_c = p_c^(1 - alpha) * q_c^alpha             base classes and background
        score_c = p_c^(1 - beta)  * q_c^beta              novel classes

    Scores are not renormalised. Two departures from the release: a class feature of zeros gives
    zero logits instead of NaN, and scores without CLIP features are p, not logits.

    State dict: ``detect_temperature`` () if learned, ``all_embeddings`` (D, K + 1),
    ``bg_embedding`` (D, 1) if learned, the branches as mmdet names them; no ``fc_cls``.

    Args:
        num_classes: K; None: as many as the vocabulary has.
        vocabulary: The classes in order, as anything :func:`fineclip.text.as_vocabulary` takes: a
            name such as ``"ov_coco"``, a JSON file, a list of names. None: they have no names.
        class_embeddings: Text embeddings, background last, normalised here; see
            :func:`detection.models.class_embeddings.head_embeddings`. None: they come from a
            checkpoint or :meth:`set_vocabulary`.
        novel_classes: Names or indices of the classes without training boxes. None: as the
            vocabulary splits them.
        learned_temperature: Where the learned temperature starts.
        fixed_temperature: A constant temperature instead; 0 or None: learned.
        learn_background: The background embedding is a parameter that starts as the text's.
        vlm_temperature: Factor on CLIP's cosines.
        alpha: CLIP's exponent for base classes and background.
        beta: CLIP's exponent for novel classes.
        keep_vocabulary: Loading a checkpoint leaves the class embeddings as they are: transfer to
            the vocabulary given here.
        learned_classes: Names of classes whose embeddings in the detector's logits are parameters,
            which start as the text's. Wherever a class of such a name is asked for, it has them.
        logit_offsets: Added to the logits of classes, by name, wherever they are asked for: the
            calibration between classes that were trained last and all others (stacking, Chao et
            al., ECCV 2016). Not in training.
        num_shared_convs: See mmdet's ``ConvFCBBoxHead``, also for what follows.
        num_shared_fcs: Linear layers shared by both branches.
        num_cls_fcs: Linear layers of the class branch.
        num_reg_fcs: Linear layers of the box branch.
        reg_class_agnostic: One box for all classes; only then the vocabulary can change.
        **kwargs: Further arguments of ``ConvFCBBoxHead``.

    Raises:
        ValueError: Neither K nor a vocabulary or two that differ, embeddings that do not fit K and
            D, unknown novel classes, or exponents outside of [0, 1].
        FileNotFoundError: The file of the embeddings or the vocabulary does not exist.
    """

    num_classes: int
    all_embeddings: Tensor
    _is_novel: Tensor

    def __init__(
        self,
        num_classes: int | None = None,
        *,
        vocabulary: str | Path | Vocabulary | Mapping[str, Any] | Sequence[Any] | None = None,
        class_embeddings: EmbeddingSource | None = None,
        novel_classes: Sequence[str | int] | None = None,
        learned_temperature: float = 50.0,
        fixed_temperature: float | None = None,
        learn_background: bool = False,
        vlm_temperature: float = 75.0,
        alpha: float = 0.1,
        beta: float = 0.8,
        keep_vocabulary: bool = False,
        learned_classes: Sequence[str] = (),
        logit_offsets: Mapping[str, float] | None = None,
        num_shared_convs: int = 4,
        num_shared_fcs: int = 2,
        num_cls_fcs: int = 1,
        num_reg_fcs: int = 1,
        reg_class_agnostic: bool = True,
        **kwargs: Any,
    ) -> None:
        if not (0 <= alpha <= 1 and 0 <= beta <= 1):
            raise ValueError(f"alpha and beta must lie in [0, 1], got {alpha} and {beta}")
        classes = None if vocabulary is None else as_vocabulary(vocabulary)
        num_classes = _number_of_classes(num_classes, classes)
        super().__init__(
            num_shared_convs=num_shared_convs,
            num_shared_fcs=num_shared_fcs,
            num_cls_fcs=num_cls_fcs,
            num_reg_fcs=num_reg_fcs,
            num_classes=num_classes,
            reg_class_agnostic=reg_class_agnostic,
            # mmdet's forward then returns the class feature where its classifier would stand.
            cls_predictor_cfg={"type": nn.Identity},
            **kwargs,
        )
        self.vlm_temperature = vlm_temperature
        self.alpha = alpha
        self.beta = beta
        self.keep_vocabulary = keep_vocabulary
        self.learned_classes = tuple(learned_classes)
        self.logit_offsets = dict(logit_offsets or {})
        self._labelled: Tensor | None = None
        self.fixed_temperature = fixed_temperature or None
        if self.fixed_temperature is None:
            self.detect_temperature = nn.Parameter(torch.tensor(float(learned_temperature)))
        self.learn_background = learn_background
        self._start_classes(classes, novel_classes, class_embeddings)

    def _start_classes(
        self,
        classes: Vocabulary | None,
        novel_classes: Sequence[str | int] | None,
        class_embeddings: EmbeddingSource | None,
    ) -> None:
        """The classifier: names, which of them are novel, embeddings."""
        count = self.num_classes
        self.register_buffer("all_embeddings", torch.zeros(self.embed_dim, count + 1))
        self.register_buffer("_is_novel", torch.zeros(count + 1, dtype=torch.bool), False)
        self._has_embeddings = False
        self.class_names = None if classes is None else classes.names
        if novel_classes is None:
            novel_classes = () if classes is None else classes.indices("novel")
        novel = class_indices(novel_classes, count, self.class_names)
        self._is_novel[novel] = True
        self._base_names = frozenset(
            name for i, name in enumerate(self.class_names or ()) if i not in novel
        )
        if class_embeddings is not None:
            rows = head_embeddings(class_embeddings, count, classes, self.embed_dim)
            self._take_embeddings(rows)
        if self.learn_background:
            self.bg_embedding = nn.Parameter(self.all_embeddings[:, -1:].clone())
        if self.learned_classes:
            places = class_indices(self.learned_classes, count, self.class_names)
            self.learned_embeddings = nn.Parameter(self.all_embeddings[:, places].clone())

    @property
    def embed_dim(self) -> int:
        """D, the width of class features and text embeddings."""
        return self.cls_last_dim

    @property
    def temperature(self) -> Tensor | float:
        """Factor on the detector's cosines."""
        return self.detect_temperature if self.fixed_temperature is None else self.fixed_temperature

    @property
    def text_embeddings(self) -> Tensor:
        """(D, K + 1) unit vectors, background last.

        Raises:
            RuntimeError: They were never given.
        """
        if not self._has_embeddings:
            raise RuntimeError(
                "the box head has no class embeddings yet: give class_embeddings in the config, "
                "load a checkpoint that has them, or call set_vocabulary"
            )
        if not self.learn_background:
            return self.all_embeddings
        background = F.normalize(self.bg_embedding, dim=0)
        return torch.cat([self.all_embeddings[:, :-1], background], dim=1)

    @property
    def classifier(self) -> Tensor:
        """(D, K + 1) unit vectors that the detector's features are compared with."""
        embeddings = self.text_embeddings
        names = self.class_names or ()
        found = [(names.index(n), i) for i, n in enumerate(self.learned_classes) if n in names]
        if not found:
            return embeddings
        places, columns = zip(*found, strict=True)
        learned = F.normalize(self.learned_embeddings, dim=0)[:, list(columns)]
        at = torch.tensor(places, device=embeddings.device)
        return embeddings.index_copy(1, at, learned.to(embeddings))

    @property
    def novel_indices(self) -> tuple[int, ...]:
        """Indices of the novel classes."""
        return tuple(self._is_novel.nonzero().flatten().tolist())

    @torch.no_grad()
    def set_vocabulary(
        self,
        class_embeddings: Tensor,
        class_names: Sequence[str] | None = None,
        *,
        novel_classes: Sequence[str | int] | None = None,
        background: Tensor | None = None,
    ) -> None:
        """Changes the classes, and how many there are, without training.

        Args:
            class_embeddings: (K', D) text embeddings of the new classes, normalised here.
            class_names: The K' names.
            novel_classes: Names or indices of the classes to score as novel. None: those whose
                names are not among the base classes the head was made with.
            background: (D,) text embedding of the background; None: as it is.

        Raises:
            ValueError: Embeddings of another width, not as many names as embeddings, or a head
                with a box per class.
        """
        number = len(class_embeddings)
        if not self.reg_class_agnostic and number != self.num_classes:
            raise ValueError(
                f"this head regresses a box per class: it cannot change from {self.num_classes} "
                f"to {number} classes. Train with reg_class_agnostic=True"
            )
        if class_names is not None and len(class_names) != number:
            raise ValueError(f"{len(class_names)} class names for {number} class embeddings")
        if background is None:
            background = self.text_embeddings[:, -1]
        parts = (class_embeddings, background.reshape(1, -1))
        rows = torch.cat([torch.as_tensor(part).to(self.all_embeddings) for part in parts])
        names = None if class_names is None else tuple(class_names)
        if novel_classes is None:
            novel = [i for i in range(number) if names is None or names[i] not in self._base_names]
        else:
            novel = class_indices(novel_classes, number, names)
        self._take_embeddings(rows)
        self.num_classes = number
        self.class_names = names
        self._is_novel = torch.zeros(number + 1, dtype=torch.bool, device=rows.device)
        self._is_novel[novel] = True

    def _take_embeddings(self, rows: Tensor) -> None:
        """Rows (K + 1, D), of any length, become the buffer (D, K + 1)."""
        if rows.ndim != 2 or rows.shape[1] != self.embed_dim:
            raise ValueError(
                f"class embeddings have the shape {tuple(rows.shape)}; the class branch of this "
                f"head is {self.embed_dim} wide (fc_out_channels): both must be the width of the "
                "CLIP's embedding"
            )
        if not rows.isfinite().all() or not rows.any(dim=1).all():
            raise ValueError("class embeddings must be finite, and no row may be all zeros")
        rows = F.normalize(rows.to(self.all_embeddings), dim=1)
        self.all_embeddings = rows.T.contiguous()
        self._has_embeddings = True

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and box deltas.

        Args:
            x: (R, C, s, s) pooled features.

        Returns:
            (R, K + 1) logits, background last, and (R, 4) deltas, or (R, 4 K) with a box per class;
            float32, also under autocast.
        """
        features, deltas = super().forward(x)
        # A feature of zeros has no direction: cosine 0 with everything.
        direction = F.normalize(features.float(), dim=1, eps=1e-6)
        # Autocast would compute the cosines in half precision again, under a factor of 50.
        with torch.autocast(direction.device.type, enabled=False):
            return self.temperature * (direction @ self.classifier), deltas.float()

    @contextmanager
    def labelled_in_images(self, places: Sequence[Sequence[int] | None]) -> Iterator[None]:
        """Says which classes were labelled in the images of a batch, for the losses in the block.

        The others are absent from the softmax of an image's boxes. What an image shows of them
        has no label, and would else be taken for background of theirs.

        Args:
            places: Of each image, the places of its classes; None: all.
        """
        if any(found is not None for found in places):
            self._labelled = self.all_embeddings.new_ones(
                len(places), self.num_classes + 1, dtype=torch.bool
            )
            for row, found in zip(self._labelled, places, strict=True):
                if found is not None:
                    row[:-1] = False
                    row[list(found)] = True
        try:
            yield
        finally:
            self._labelled = None

    def loss(
        self, cls_score: Tensor, bbox_pred: Tensor, rois: Tensor, *targets: Tensor, **kwargs: Any
    ) -> dict[str, Tensor]:
        """Mmdet's losses, as this process's shares of the means over the boxes of all processes.

        Args:
            cls_score: (R, K + 1) logits.
            bbox_pred: (R, 4) deltas, or (R, 4 K).
            rois: (R, 5) image index and xyxy in pixels.
            *targets: Labels, their weights, deltas, their weights.
            **kwargs: As for mmdet's.

        Returns:
            ``loss_cls`` and ``loss_bbox``, and ``acc`` in percent of this process.
        """
        if self._labelled is not None:
            absent = ~self._labelled[rois[:, 0].long()]
            cls_score = cls_score.masked_fill(absent, _ABSENT)
        losses = super().loss(cls_score, bbox_pred, rois, *targets, **kwargs)
        share = share_of_rows(len(rois), rois.device)
        return {name: value * share if "loss" in name else value for name, value in losses.items()}

    def class_probabilities(self, logits: Tensor, clip_features: Tensor | None = None) -> Tensor:
        """Scores of the classes.

        Args:
            logits: (R, K + 1) from :meth:`forward`.
            clip_features: (R, D) features of the same boxes from the frozen CLIP, of any length.

        Returns:
            (R, K + 1) in [0, 1], background last; with CLIP features rows do not sum to 1.
        """
        offsets = (
            logits.new_tensor(
                [*(self.logit_offsets.get(name, 0.0) for name in self.class_names or ()), 0.0]
            )
            if self.logit_offsets and self.class_names
            else 0.0
        )
        probabilities = (logits.float() + offsets).softmax(dim=1)
        if clip_features is None:
            return probabilities
        with torch.autocast(clip_features.device.type, enabled=False):
            cosine = F.normalize(clip_features.float(), dim=1) @ self.text_embeddings
        of_clip = (self.vlm_temperature * cosine).softmax(dim=1)
        share = torch.where(self._is_novel, self.beta, self.alpha)  # (K + 1,)
        return probabilities.pow(1 - share) * of_clip.pow(share)

    def _predict_by_feat_single(
        self,
        roi: Tensor,
        cls_score: Tensor,
        bbox_pred: Tensor,
        img_meta: dict,
        rescale: bool = False,
        rcnn_test_cfg: ConfigType | None = None,
    ) -> InstanceData:
        """As in mmdet, but ``cls_score`` (n, K + 1) already are probabilities."""
        raw = super()._predict_by_feat_single(roi, cls_score, bbox_pred, img_meta, rescale, None)
        raw.scores = cls_score
        if rcnn_test_cfg is None:
            return raw
        boxes, scores, labels = best_boxes(
            raw.bboxes,
            raw.scores,
            threshold=rcnn_test_cfg.score_thr,
            nms_cfg=rcnn_test_cfg.nms,
            number=rcnn_test_cfg.max_per_img,
        )
        return InstanceData(bboxes=boxes, scores=scores, labels=labels)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        if self.fixed_temperature is not None:
            state_dict.pop(f"{prefix}detect_temperature", None)
        if self.learned_classes:  # of what was trained without, they are the text's
            learned = f"{prefix}learned_embeddings"
            state_dict.setdefault(learned, self.learned_embeddings.detach())
        key = f"{prefix}all_embeddings"
        if self.keep_vocabulary and self._has_embeddings:
            state_dict[key] = self.all_embeddings
        stored = state_dict.get(key)
        if stored is not None and stored.shape != self.all_embeddings.shape:
            raise ValueError(
                f"the checkpoint has {tuple(stored.shape)} class embeddings (width, classes + 1), "
                f"the box head {tuple(self.all_embeddings.shape)}. To test it on another "
                "vocabulary set keep_vocabulary=True and give class_embeddings"
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._has_embeddings |= stored is not None


def _number_of_classes(number: int | None, vocabulary: Vocabulary | None) -> int:
    if vocabulary is None:
        if number is None:
            raise ValueError("the box head needs num_classes or a vocabulary")
        return number
    if number not in (None, len(vocabulary)):
        raise ValueError(
            f"num_classes is {number}, but the vocabulary {vocabulary.name!r} has "
            f"{len(vocabulary)} classes; leave num_classes out"
        )
    return len(vocabulary)
