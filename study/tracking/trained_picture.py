"""A picture of what a run trained when, for MLflow: depths × epochs."""

from collections.abc import Iterable

from study.tracking.schema import TRAINED_CURVE

CELL, LEFT, TOP = 16, 96, 24  # pixels
COLOUR = "#08519c"


def trained_picture(metrics: Iterable[tuple[str, float, int]]) -> str:
    """An SVG whose cells are the darker, the larger the share of a depth's weights trained.

    Args:
        metrics: Name, value and epoch; only curves `trained/depth_<number>` count.

    Returns:
        The embeddings are at the bottom, the head at the top; the number of each share is the
        cell's title. Empty if there is no such curve.
    """
    shares = {
        (int(name.removeprefix(TRAINED_CURVE)), epoch): value
        for name, value, epoch in metrics
        if name.startswith(TRAINED_CURVE)
    }
    if not shares:
        return ""
    head, epochs = (max(values) for values in zip(*shares, strict=True))
    width, bottom = LEFT + CELL * epochs + 8, TOP + CELL * (head + 1)
    cells = [
        f'<rect x="{LEFT + CELL * (epoch - 1)}" y="{bottom - CELL * (depth + 1)}" width="{CELL}" '
        f'height="{CELL}" fill="{COLOUR}" fill-opacity="{share:.3f}" stroke="#dddddd">'
        f"<title>{_named(depth, head)}, epoch {epoch}: {share:.0%}</title></rect>"
        for (depth, epoch), share in sorted(shares.items())
    ]
    names = [
        f'<text x="{LEFT - 6}" y="{bottom - CELL * depth - 4}" text-anchor="end">'
        f"{_named(depth, head)}</text>"
        for depth in range(head + 1)
    ]
    axis = [
        f'<text x="{LEFT + CELL * (epoch - 0.5)}" y="{bottom + 14}" text-anchor="middle">{epoch}'
        "</text>"
        for epoch in sorted({1, epochs})
    ]
    title = f'<text x="{LEFT}" y="14">share of the weights trained, by epoch</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{max(width, 360)}" height="{bottom + 22}" '
        f'font-family="sans-serif" font-size="11">{"".join([title, *cells, *names, *axis])}</svg>'
    )


def _named(depth: int, head: int) -> str:
    return {0: "embeddings", head: "head"}.get(depth, f"layer {depth}")
