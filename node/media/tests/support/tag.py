"""Writes with mutagen those fields that an encoder's own options cannot.

usage: tag.py mp3|mp3v23|mp3ape|wav|aiff|mp4 FILE FRONT BACK
"""

import sys

from mutagen import apev2, id3, mp4
from mutagen.aiff import AIFF
from mutagen.wave import WAVE

MB = {
    "Track Id": "11111111-1111-4111-8111-111111111111",
    "Release Track Id": "22222222-2222-4222-8222-222222222222",
    "Album Id": "33333333-3333-4333-8333-333333333333",
    "Release Group Id": "44444444-4444-4444-8444-444444444444",
    "Artist Id": ["55555555-5555-4555-8555-555555555555", "66666666-6666-4666-8666-666666666666"],
    "Album Artist Id": ["77777777-7777-4777-8777-777777777777"],
    "Work Id": "88888888-8888-4888-8888-888888888888",
}
GAIN = {
    "REPLAYGAIN_TRACK_GAIN": "+3.00 dB",
    "REPLAYGAIN_TRACK_PEAK": "0.987654",
    "REPLAYGAIN_ALBUM_GAIN": "-1.50 dB",
    "REPLAYGAIN_ALBUM_PEAK": "1.012345",
}
TITLE = "T\u00eftle / \u540d\u524d"
ARTISTS = ["Artist One", "Artist Two"]
ALBUM_ARTISTS = ["Album Artist", "Second Album Artist"]
GENRES = ["Rock", "Krautrock"]
COMPOSERS = ["Composer A", "Composer B"]


def put_id3(tags, front, back, version=4):
    tags.clear()
    text = lambda frame, value: tags.add(frame(encoding=1 if version == 3 else 3, text=value))
    text(id3.TIT2, TITLE)
    text(id3.TPE1, ARTISTS)
    text(id3.TALB, "Album")
    text(id3.TPE2, ALBUM_ARTISTS)
    text(id3.TCON, GENRES)
    text(id3.TDRC, "1997-06-16")
    text(id3.TDOR, "1994-01-02")
    text(id3.TRCK, "3/12")
    text(id3.TPOS, "1/2")
    text(id3.TCMP, "1")
    text(id3.TCOM, COMPOSERS)
    text(id3.TPUB, "Label")
    text(id3.TSRC, "USABC9700001")
    tags.add(id3.UFID(owner="http://musicbrainz.org", data=MB["Track Id"].encode()))
    for name, value in MB.items():
        if name != "Track Id":
            tags.add(id3.TXXX(encoding=3, desc="MusicBrainz " + name, text=value))
    for name, value in GAIN.items():
        tags.add(id3.TXXX(encoding=3, desc=name.lower(), text=value))
    tags.add(id3.TXXX(encoding=3, desc="CATALOGNUMBER", text="CAT 1"))
    tags.add(id3.APIC(encoding=0, mime="image/jpeg", type=3, desc="", data=front))
    tags.add(id3.APIC(encoding=3, mime="image/png", type=4, desc="b\u00e4ck", data=back))


def put_mp4(audio, front, back):
    tags = audio.tags
    tags["\xa9nam"] = [TITLE]
    tags["\xa9ART"] = ARTISTS
    tags["\xa9alb"] = ["Album"]
    tags["aART"] = ALBUM_ARTISTS
    tags["\xa9gen"] = GENRES
    tags["\xa9day"] = ["1997-06-16"]
    tags["\xa9wrt"] = COMPOSERS
    tags["trkn"] = [(3, 12)]
    tags["disk"] = [(1, 2)]
    tags["cpil"] = True
    free = {"MusicBrainz " + name: value for name, value in MB.items()}
    free.update(GAIN)
    free.update({"originaldate": "1994-01-02", "LABEL": "Label"})
    free.update({"CATALOGNUMBER": "CAT 1", "ISRC": "USABC9700001"})
    for name, value in free.items():
        values = value if isinstance(value, list) else [value]
        tags["----:com.apple.iTunes:" + name] = [one.encode() for one in values]
    jpeg, png = mp4.MP4Cover.FORMAT_JPEG, mp4.MP4Cover.FORMAT_PNG
    tags["covr"] = [mp4.MP4Cover(front, jpeg), mp4.MP4Cover(back, png)]


def put_ape(tags, front):
    tags["Title"] = TITLE
    tags["Artist"] = ARTISTS
    tags["Album"] = "Album"
    tags["Track"] = "3/12"
    tags["Year"] = "1997-06-16"
    for name, value in GAIN.items():
        tags[name.lower()] = value
    cover = b"front.jpg\0" + front
    tags["Cover Art (Front)"] = apev2.APEValue(cover, apev2.BINARY)


def main():
    kind, path, front, back = sys.argv[1:]
    front, back = open(front, "rb").read(), open(back, "rb").read()
    if kind in ("mp3", "mp3v23"):
        version = 3 if kind == "mp3v23" else 4
        tags = id3.ID3()
        put_id3(tags, front, back, version)
        if version == 3:
            tags.update_to_v23()
        tags.save(path, v1=0, v2_version=version, v23_sep=None)
    elif kind == "mp3ape":
        tags = apev2.APEv2()
        put_ape(tags, front)
        tags.save(path)
    elif kind in ("wav", "aiff"):
        audio = WAVE(path) if kind == "wav" else AIFF(path)
        if audio.tags is None:
            audio.add_tags()
        put_id3(audio.tags, front, back)
        audio.save()
    else:
        audio = mp4.MP4(path)
        put_mp4(audio, front, back)
        audio.save()


main()
