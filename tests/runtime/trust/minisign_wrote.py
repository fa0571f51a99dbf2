"""What minisign 0.11 itself wrote: keys of these tests alone, and its signatures of a manifest.

    minisign -G -W -p KEY.pub -s KEY.key                      PUBLIC, SECRET
    echo -e 'secret\nsecret' | minisign -G -p B.pub -s B.key   SECRET_WITH_PASSWORD (it is `secret`)
    minisign -S -s KEY.key -m manifest.json                   SIGNATURE
    minisign -S -l -s KEY.key -m manifest.json                LEGACY, of the file and not its digest

MANIFEST is `manifest.json` of the bundle that `bundles.make` makes.
"""

__all__ = ["KEY", "LEGACY", "MANIFEST", "PUBLIC", "SECRET", "SECRET_WITH_PASSWORD", "SIGNATURE"]

KEY = "244E2D7CFDF76548"
PUBLIC = """\
untrusted comment: minisign public key 244E2D7CFDF76548
RWRIZff9fC1OJIepVeYUf6lpHlZC47c8gIlNtiL+/8fY5+WETkHfLdML
"""
SECRET = """\
untrusted comment: minisign encrypted secret key
RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAASGX3/XwtTiQIrxcWChgE/GqQ+z5ayUg2KNgg18twQ+FQyi5g3ys4JIepVeYUf6lpHlZC47c8gIlNtiL+/8fY5+WETkHfLdMLAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
"""
SECRET_WITH_PASSWORD = """\
untrusted comment: minisign encrypted secret key
RWRTY0IymWhjuKFdfhoDQtytB/0fS7am/ktyvcqYrYX+ERLL+wQAAAACAAAAAAAAAEAAAAAA1twP6WrB4L0krZjbpwCGLnjlTaJEuqFF6iR4FSf1jWxRbwnQVjgOef4Y1pJ7PkastBt5WSPifUkRe5sEeunuqKIY2iAU8qtOtdurJOxjDkpR0+RIU4u5EKFHKzdCXgB4llFFFbWrwxw=
"""
SIGNATURE = """\
untrusted comment: signature from minisign secret key
RURIZff9fC1OJB7BJAE0kUOt2+5gVxAfXzUKKhByjKRHfq2tAMD514KVk2lLzfDfaCZ0qs4ktcnurFeMWmEE+oy2db64KIN6vgg=
trusted comment: timestamp:1800000000\tfile:manifest.json\thashed
9iMrkBRS0n0/eD6ebnKU6SzalimIUGlqWsGCGtxIen9jZj/2auMI3/p6bCtrqfNniSlk1Zj5QYT7bhSALL3FDg==
"""
LEGACY = """\
untrusted comment: signature from minisign secret key
RWRIZff9fC1OJAmCtTacewMXq0IRBZz93I4yhTbYNmSR/JlVQGv7Oda5WZ41z5a5ETOYAEg6WeXU4UOc+x4zxEL8XIafblugaQ8=
trusted comment: timestamp:1800000000
stZDtbdJP7RJRSEY4nWxZcMQxxTr79XbymQDhcoiFHkHZvB3EPjS9WOp+itH1MFPXG5F+uzd1imKSKwdvSFuDg==
"""
MANIFEST = """\
{
  "format_version": 1,
  "family": "test",
  "input": {
    "height": 64,
    "width": 64,
    "batch": 1,
    "pad_value": [
      124,
      116,
      104
    ],
    "layout": "uint8 NHWC RGB"
  },
  "outputs": {
    "boxes": [
      1,
      4,
      4
    ],
    "scores": [
      1,
      4
    ],
    "labels": [
      1,
      4
    ],
    "masks": [
      1,
      4,
      28,
      28
    ],
    "count": [
      1
    ]
  },
  "class_names": [
    "background",
    "disc"
  ],
  "precision": "fp16",
  "source": {},
  "fidelity": {},
  "mask_frame": "box",
  "mask_paste": "torchvision",
  "files": {
    "engines/rtx/engine.json": "e4a60ce4ccf26e13afb357565c1c7e89a53599d90404aa444480cdd62fa9443c",
    "engines/rtx/engine.trt": "a914531f59e87065cbbed159415ad1a62ab9ec69a28d608612a40dbf153c390f",
    "model.onnx": "eef93e1d14482804277fca0172464032d1a4fdbcc338524059fa1e861454ad4d"
  }
}
"""
