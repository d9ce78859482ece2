import pytest
import torch
from PIL import Image

from fineclip.datasets.transforms import ImageTransform, as_transform, enlarge_boxes


def picture(width, height, box):
    """Black, with a white rectangle."""
    image = Image.new("RGB", (width, height))
    image.paste((255, 255, 255), box)
    return image


def extent(pixels):
    """xyxy of the white part, normalised."""
    rows, columns = (pixels[0] > 127).nonzero(as_tuple=True)
    size = pixels.shape[-1]
    return torch.tensor(
        [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=torch.float32
    ).div(size)


@pytest.mark.parametrize("resize", ["squash", "pad", "pad_center"])
@pytest.mark.parametrize(("width", "height"), [(80, 40), (40, 80), (64, 64)])
def test_boxes_move_with_the_pixels(resize, width, height):
    box = (width // 4, height // 4, width // 2, height * 3 // 4)
    transform = ImageTransform(64, resize)
    expected = extent(transform(picture(width, height, box)))
    mapped = transform.map_boxes(torch.tensor([box]), width, height)[0]
    torch.testing.assert_close(mapped, expected, atol=1 / 64, rtol=0)


def test_padding_is_black_and_where_it_should_be():
    image = Image.new("RGB", (80, 40), (255, 255, 255))
    right = ImageTransform(64, "pad")(image)
    assert (right[:, :32] == 255).all()
    assert (right[:, 32:] == 0).all()
    center = ImageTransform(64, "pad_center")(image)
    assert (center[:, 16:48] == 255).all()
    assert (center[:, :16] == 0).all()


def test_box_takes_part_of_the_image():
    image = picture(80, 40, (40, 0, 80, 40))
    assert (ImageTransform(16)(image, box=(40, 0, 80, 40))[:, :, 1:] == 255).all()
    assert (ImageTransform(16)(image, box=(0, 0, 40, 40))[:, :, :-1] == 0).all()
    half = ImageTransform(4)(image, box=(39.5, 0, 43.5, 4))
    assert half[0, 0].tolist() == [128, 255, 255, 255]


def test_enlarged_boxes_keep_their_centre_and_stay_inside():
    boxes = torch.tensor([[10.0, 10.0, 20.0, 30.0], [0.0, 0.0, 10.0, 10.0]])
    enlarged = enlarge_boxes(boxes, 1.5, width=100, height=32)
    torch.testing.assert_close(enlarged[0], torch.tensor([7.5, 5.0, 22.5, 32.0]))
    torch.testing.assert_close(enlarged[1], torch.tensor([0.0, 0.0, 12.5, 12.5]))


def test_bad_arguments():
    with pytest.raises(ValueError, match="'squash' or 'pad' or 'pad_center', got 'crop'"):
        ImageTransform(8, "crop")
    with pytest.raises(ValueError, match="interpolation: expected 'bicubic' or 'bilinear'"):
        ImageTransform(8, interpolation="nearest")
    with pytest.raises(ValueError, match="size: expected an integer from 1 on"):
        ImageTransform(0)
    with pytest.raises(TypeError, match="ImageTransform or a dict"):
        as_transform(224)
