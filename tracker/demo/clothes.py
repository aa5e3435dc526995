"""What a person looks like: skin, hair, face and clothes, as textured surfaces over the joints."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float

from tracker.demo.body import Build, Joints
from tracker.demo.render import Ball, Limb, Texture

_SKIN = np.array(
    [
        [241, 205, 180],
        [229, 184, 152],
        [206, 155, 120],
        [172, 120, 86],
        [128, 84, 60],
        [88, 58, 44],
    ],
    dtype=np.float64,
)
_HAIR = np.array(
    [
        [28, 22, 20],
        [52, 36, 26],
        [88, 60, 38],
        [130, 94, 56],
        [176, 142, 92],
        [120, 60, 36],
        [150, 148, 146],
    ],
    dtype=np.float64,
)
_CLOTH = np.array(
    [
        [238, 236, 230],
        [34, 36, 42],
        [58, 62, 74],
        [128, 130, 134],
        [36, 58, 110],
        [92, 128, 176],
        [160, 38, 44],
        [196, 92, 60],
        [206, 172, 72],
        [64, 104, 72],
        [112, 128, 92],
        [110, 70, 116],
        [206, 148, 160],
        [70, 140, 148],
        [148, 116, 84],
    ],
    dtype=np.float64,
)
_TROUSERS = np.array(
    [
        [38, 48, 78],
        [62, 82, 122],
        [30, 30, 34],
        [84, 84, 88],
        [150, 132, 102],
        [70, 66, 52],
        [196, 190, 176],
    ],
    dtype=np.float64,
)
_SHOES = np.array(
    [[30, 28, 28], [226, 224, 220], [96, 62, 40], [120, 122, 128], [150, 40, 40]], dtype=np.float64
)

# Half-widths over stature, from the first to the second joint.
_HIPS_WIDE = np.array([0.030, 0.078, 0.096, 0.099, 0.095, 0.088, 0.083])
_HIPS_DEEP = np.array([0.036, 0.060, 0.069, 0.067, 0.062, 0.057, 0.055])
_CHEST_WIDE = np.array(
    [0.078, 0.080, 0.085, 0.092, 0.099, 0.105, 0.108, 0.109, 0.100, 0.066, 0.034]
)
_CHEST_DEEP = np.array(
    [0.055, 0.057, 0.060, 0.064, 0.067, 0.068, 0.065, 0.058, 0.048, 0.040, 0.032]
)
_ARM = np.array([0.0295, 0.0320, 0.0310, 0.0285, 0.0265])
_FOREARM = np.array([0.0265, 0.0280, 0.0255, 0.0205, 0.0165])
_THIGH = np.array([0.052, 0.054, 0.051, 0.044, 0.036])
_SHIN = np.array([0.034, 0.0345, 0.0365, 0.034, 0.027, 0.0215, 0.0205])
_HAND_WIDE = np.array([0.0165, 0.023, 0.0245, 0.022, 0.017, 0.009])
_HAND_DEEP = np.array([0.0140, 0.014, 0.0120, 0.010, 0.008, 0.006])
_FOOT_WIDE = np.array([0.021, 0.023, 0.025, 0.029, 0.029, 0.021])
_FOOT_DEEP = np.array([0.030, 0.031, 0.029, 0.023, 0.018, 0.014])


@dataclass(frozen=True, slots=True, eq=False)
class Outfit:
    """The textures and the cut of everything that a person wears and is."""

    chest: Texture
    hips: Texture
    arm: Texture
    forearm: Texture
    thigh: Texture
    shin: Texture
    skin: Texture
    face: Texture
    jaw: Texture
    hair: Texture
    shoe: Texture
    skirt: Texture | None
    sleeve: float
    """Covered part of the arm: 0 none, 1 to the elbow, 2 to the wrist."""
    leg: float
    """Covered part of the leg: 0 none, 1 to the knee, 2 to the ankle."""
    loose: float
    """What cloth adds to a half-width, over stature."""
    hair_length: float
    """0 shaved, 1 short, 2 to the shoulders."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Outfit":
        skin_tone = _between(_SKIN, rng)
        hair_tone = _pick(_HAIR, rng) * rng.uniform(0.8, 1.15)
        shirt = _cloth(_pick(_CLOTH, rng), rng, patterned=True)
        skin = _cloth(skin_tone, rng, patterned=False, folds=0.03)
        sleeve = float(rng.choice([0.05, 0.55, 0.65, 2.0, 2.0]))
        skirt = _cloth(_pick(_CLOTH, rng), rng, patterned=True) if rng.uniform() < 0.15 else None
        trousers = _cloth(_pick(_TROUSERS, rng) * rng.uniform(0.8, 1.15), rng, patterned=False)
        # Thighs under a skirt share its cloth, as knees may push through it.
        lower = trousers if skirt is None else skirt
        leg = float(rng.choice([0.85, 2.0, 2.0, 2.0])) if skirt is None else 0.7
        tucked = rng.uniform() < 0.35
        hips = _stacked(lower, shirt, 0.72 if tucked else rng.uniform(0.28, 0.5))
        if tucked:
            hips[43:46] = 30.0  # a belt
        return cls(
            chest=_with_neckline(_with_print(shirt, rng), skin, rng),
            hips=hips,
            arm=_stacked(shirt, skin, sleeve),
            forearm=_stacked(shirt, skin, sleeve - 1),
            thigh=_stacked(lower, skin, leg),
            shin=_stacked(lower, skin, leg - 1 if leg < 2 else 0.97),
            skin=skin,
            face=_face(skin_tone, hair_tone),
            jaw=_jaw(skin_tone, hair_tone, rng),
            hair=_cloth(hair_tone, rng, patterned=False, folds=0.16),
            shoe=_stacked(*(2 * (_cloth(_pick(_SHOES, rng), rng, patterned=False),)), 1.0),
            skirt=skirt,
            sleeve=sleeve,
            leg=leg,
            loose=float(rng.uniform(0.002, 0.008)),
            hair_length=float(rng.choice([0.0, 1.0, 1.0, 1.0, 2.0, 2.0])),
        )


def dress(build: Build, outfit: Outfit, body: Joints) -> list[Limb | Ball]:
    """The surfaces of a posed body, in whatever frame the joints are in."""
    h, g = build.stature, build.stature * build.girth
    turns = body.turns
    pelvis_up, chest_up = turns["pelvis"][:, 2], turns["chest"][:, 2]
    waist_up = turns["waist"][:, 2]
    cloth = outfit.loose * h
    hips_side, chest_side = turns["pelvis"][:, 1], turns["chest"][:, 1]
    surfaces: list[Limb | Ball] = [
        Limb(
            body.pelvis - 0.085 * h * pelvis_up,
            body.pelvis + 0.075 * h * pelvis_up + 0.035 * h * waist_up,
            hips_side,
            g * build.hips * _HIPS_WIDE + cloth,
            g * _HIPS_DEEP + cloth,
            outfit.hips,
        ),
        Limb(
            body.chest - 0.085 * h * waist_up,
            body.chest + 0.148 * h * chest_up,
            chest_side,
            g * build.shoulders * _CHEST_WIDE + cloth,
            g * _CHEST_DEEP + cloth,
            outfit.chest,
        ),
    ]
    surfaces += _head(build, outfit, body)
    for i in range(2):
        surfaces += _arm(build, outfit, body, i) + _leg(build, outfit, body, i)
    if outfit.skirt is not None:
        surfaces.append(_skirt(build, outfit, body))
    return surfaces


def _arm(build: Build, outfit: Outfit, body: Joints, i: int) -> list[Limb | Ball]:
    g = build.stature * build.girth
    shoulder, elbow, wrist = body.keypoints[5 + i], body.keypoints[7 + i], body.keypoints[9 + i]
    forearm = body.turns["forearm"][i]
    upper = g * _ARM + _covered(outfit, outfit.sleeve, len(_ARM), build)
    lower = g * _FOREARM + _covered(outfit, outfit.sleeve - 1, len(_FOREARM), build)
    thumb = wrist - 0.020 * g * forearm[:, 2] + 0.018 * g * forearm[:, 0]
    return [
        Limb(shoulder, elbow, body.turns["arm"][i, :, 1], upper, upper, outfit.arm),
        Limb(elbow, wrist, forearm[:, 1], lower, lower, outfit.forearm),
        Limb(wrist, body.fingers[i], forearm[:, 0], g * _HAND_WIDE, g * _HAND_DEEP, outfit.skin),
        Limb(
            thumb,
            thumb - 0.034 * g * forearm[:, 2] + 0.014 * g * forearm[:, 0],
            forearm[:, 0],
            np.array([0.0095, 0.0085, 0.006]) * g,
            np.array([0.0095, 0.0085, 0.006]) * g,
            outfit.skin,
        ),
    ]


def _leg(build: Build, outfit: Outfit, body: Joints, i: int) -> list[Limb | Ball]:
    h, g = build.stature, build.stature * build.girth
    hip, knee, ankle = body.keypoints[11 + i], body.keypoints[13 + i], body.keypoints[15 + i]
    thigh, shin, foot = (body.turns[name][i] for name in ("thigh", "shin", "foot"))
    upper = g * _THIGH + _covered(outfit, outfit.leg, len(_THIGH), build)
    lower = g * _SHIN
    if outfit.leg > 1:
        lower = np.maximum(lower, 0.6 * lower + 0.4 * 0.036 * g) + outfit.loose * h
    return [
        Limb(hip, knee, thigh[:, 1], upper, upper, outfit.thigh),
        Limb(knee, ankle, shin[:, 1], lower, lower, outfit.shin),
        Limb(
            body.heels[i] + 0.012 * h * foot[:, 2],
            body.toes[i],
            foot[:, 1],
            h * _FOOT_WIDE,
            h * _FOOT_DEEP,
            outfit.shoe,
        ),
    ]


def _skirt(build: Build, outfit: Outfit, body: Joints) -> Limb:
    assert outfit.skirt is not None
    h, g = build.stature, build.stature * build.girth
    knees = body.keypoints[13:15]
    waist = body.pelvis + 0.05 * h * body.turns["pelvis"][:, 2]
    hem = waist + 0.85 * (knees.mean(axis=0) - waist)
    apart = np.abs((knees[0] - knees[1]) @ body.turns["pelvis"]) / 2
    top = g * np.array([0.088, 0.104, 0.112, 0.118, 0.124, 0.130])
    flare = np.linspace(0, 1, 6)
    return Limb(
        waist,
        hem,
        body.turns["pelvis"][:, 1],
        top + np.maximum(apart[1] - 0.04 * h, 0) * flare,
        0.85 * top + np.maximum(apart[0], 0) * 0.8 * flare,
        outfit.skirt,
        cut=True,
    )


def _head(build: Build, outfit: Outfit, body: Joints) -> list[Limb | Ball]:
    size = 0.5 + 0.5 * build.stature / 1.72
    turn, centre = body.turns["head"], body.head
    nose, ears = body.keypoints[0], body.keypoints[3:5]
    neck_r = 0.034 * build.stature * (0.7 + 0.3 * build.girth) * np.array([1.1, 1.0, 0.98, 1.0])
    surfaces: list[Limb | Ball] = [
        Limb(
            body.neck - 0.012 * build.stature * body.turns["chest"][:, 2],
            centre + size * (turn @ np.array([-0.012, 0.0, -0.055])),
            turn[:, 1],
            neck_r,
            neck_r,
            outfit.skin,
        ),
        Ball(centre, turn, size * np.array([0.099, 0.077, 0.116]), outfit.face),
        # The jaw: narrower than the skull, and ahead of its middle.
        Ball(
            centre + size * (turn @ np.array([0.022, 0.0, -0.050])),
            turn,
            size * np.array([0.076, 0.060, 0.066]),
            outfit.jaw,
        ),
        Ball(
            nose - size * (turn @ np.array([0.014, 0.0, -0.008])),
            turn,
            size * np.array([0.017, 0.014, 0.023]),
            outfit.skin,
        ),
        *(Ball(ear, turn, size * np.array([0.017, 0.008, 0.029]), outfit.skin) for ear in ears),
    ]
    if outfit.hair_length >= 1:
        surfaces.append(
            Ball(
                centre + size * (turn @ np.array([-0.020, 0.0, 0.020])),
                turn,
                size * np.array([0.100, 0.084, 0.110]),
                outfit.hair,
            )
        )
    if outfit.hair_length >= 2:
        back = centre + size * (turn @ np.array([-0.055, 0.0, 0.0]))
        tips = body.neck + body.turns["chest"] @ (build.stature * np.array([-0.050, 0.0, -0.035]))
        surfaces.append(
            Limb(
                back,
                tips,
                turn[:, 1],
                size * np.array([0.075, 0.084, 0.086, 0.082, 0.066]),
                size * np.array([0.055, 0.050, 0.040, 0.032, 0.022]),
                outfit.hair,
            )
        )
    return surfaces


def _covered(outfit: Outfit, part: float, n: int, build: Build) -> Float[np.ndarray, " n"]:
    """Cloth around the covered beginning of a limb."""
    return np.where(np.linspace(0, 1, n) <= part, outfit.loose * build.stature, 0.0)


def _pick(colours: Float[np.ndarray, "n 3"], rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    return colours[rng.integers(len(colours))] + rng.normal(0, 8, 3)


def _between(colours: Float[np.ndarray, "n 3"], rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    at = rng.uniform(0, len(colours) - 1)
    return np.array([np.interp(at, np.arange(len(colours)), channel) for channel in colours.T])


def _cloth(
    colour: Float[np.ndarray, "3"],
    rng: np.random.Generator,
    *,
    patterned: bool,
    folds: float = 0.09,
) -> Texture:
    """64 rows by 48 columns of cloth, seamless around, with folds; sometimes striped or checked."""
    rows, columns = np.arange(64)[:, None], np.arange(48)[None]
    cloth = np.broadcast_to(colour, (64, 48, 3)).copy()
    kind = rng.integers(6) if patterned else 5
    period = 4 * int(rng.integers(2, 5))
    across, up = (rows % period) < period // 2, (columns % 6) < 3
    other = _pick(_CLOTH, rng)
    if kind == 0:
        cloth[np.broadcast_to(across, (64, 48))] = other
    elif kind == 1:
        cloth[np.broadcast_to(up, (64, 48))] += 0.25 * (other - colour)
    elif kind == 2:
        check = 0.5 * (across.astype(float) + up)
        cloth += check[..., None] * (other - colour)
    coarse = rng.normal(0, 1, (9, 7)).astype(np.float32)
    coarse[:, -1] = coarse[:, 0]
    fold = cv2.resize(coarse, (49, 64), interpolation=cv2.INTER_CUBIC)[:, :48]
    fine = rng.normal(0, 0.3, (64, 48))
    return np.clip(cloth * (1 + folds * (fold + fine))[..., None], 4, 255).astype(np.float32)


def _stacked(first: Texture, second: Texture, part: float) -> Texture:
    """One texture up to a part of the way, another beyond; a dark seam where they meet."""
    edge = int(np.clip(round(part * 64), 0, 64))
    both = np.concatenate([first[:edge], second[edge:]])
    if 0 < edge < 64:
        both[edge - 1 : edge + 1] *= 0.75
    return both


def _with_print(shirt: Texture, rng: np.random.Generator) -> Texture:
    """Sometimes a print on the breast."""
    shirt = shirt.copy()
    if rng.uniform() < 0.4:
        shirt[26:44, :4] = shirt[26:44, -4:] = _pick(_CLOTH, rng)
    elif rng.uniform() < 0.3:
        shirt[:, :1] = shirt[:, -1:] = 0.6 * shirt[:, :1]  # a zip
    return shirt


def _with_neckline(shirt: Texture, skin: Texture, rng: np.random.Generator) -> Texture:
    shirt = shirt.copy()
    shirt[58:] = skin[58:]
    deep = int(rng.integers(53, 58))
    shirt[deep:, :4], shirt[deep:, -4:] = skin[deep:, :4], skin[deep:, -4:]
    return shirt


def _face(skin: Float[np.ndarray, "3"], hair: Float[np.ndarray, "3"]) -> Texture:
    """Eyes, brows and cheeks by longitude (front at column 64) and latitude."""
    face = np.broadcast_to(skin, (96, 128, 3)).astype(np.float32).copy()
    brows = 0.4 * hair + 0.4 * skin
    for side in (-1, 1):
        x = 64 + 7 * side
        _spot(face, (x, 47), (6, 4), 0.86 * skin)
        _spot(face, (x, 47), (4, 2), np.array([232.0, 228.0, 224.0]))
        _spot(face, (x, 47), (2, 2), np.array([44.0, 34.0, 28.0]))
        _spot(face, (x, 42), (5, 1), brows)
        _spot(face, (64 + 13 * side, 58), (5, 5), skin * [1.03, 0.95, 0.94])
    return np.clip(cv2.GaussianBlur(face, (0, 0), 0.8), 0, 255)


def _jaw(
    skin: Float[np.ndarray, "3"], hair: Float[np.ndarray, "3"], rng: np.random.Generator
) -> Texture:
    """The mouth, and sometimes a beard."""
    jaw = np.broadcast_to(skin, (96, 128, 3)).astype(np.float32).copy()
    lips = 0.62 * skin + [48, 4, 10]
    if rng.uniform() < 0.2:
        jaw[50:] = 0.5 * hair + 0.4 * skin
        _spot(jaw, (64, 50), (16, 6), 0.5 * hair + 0.4 * skin)
    _spot(jaw, (64, 53), (9, 4), lips)
    _spot(jaw, (64, 53), (8, 1), 0.6 * lips)
    return np.clip(cv2.GaussianBlur(jaw, (0, 0), 0.8), 0, 255)


def _spot(
    image: Texture, centre: tuple[int, int], axes: tuple[int, int], colour: Float[np.ndarray, "3"]
) -> None:
    cv2.ellipse(image, centre, axes, 0, 0, 360, tuple(map(float, colour)), -1)
