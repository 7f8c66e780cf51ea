"""Verifies a bundle of `nachos audit prove` by RFC 9162 and C2SP signed-note alone: written from those texts, and knowing nothing of our code.

Usage: independent.py BUNDLE.json VERIFIER-KEY
"""

import base64
import hashlib
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def leaf_hash(record):
    """docs/AUDIT.md, "The leaf"."""
    body = record["body"].encode() if "body" in record else base64.b64decode(record["body_base64"])
    head = f"nachos-record/1\n{record['seq']}\n{record['time_ns']}\n{record['subject']}\n{len(body)}\n".encode()
    return hashlib.sha256(b"\x00" + head + body).digest()


def root_of(leaf, index, size, proof):
    """RFC 9162 section 2.1.3.2."""
    if index >= size:
        raise ValueError("the index is outside the tree")
    fn, sn, r = index, size - 1, leaf
    for p in proof:
        if sn == 0:
            raise ValueError("the proof is too long")
        if fn & 1 or fn == sn:
            r = hashlib.sha256(b"\x01" + p + r).digest()
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = hashlib.sha256(b"\x01" + r + p).digest()
        fn, sn = fn >> 1, sn >> 1
    if sn:
        raise ValueError("the proof is too short")
    return r


def open_note(note, vkey):
    """C2SP signed-note: the text, if the key signed it."""
    name, key_id, key = vkey.split("+", 2)
    key = base64.b64decode(key)
    if key[0] != 1 or hashlib.sha256(name.encode() + b"\n" + key).digest()[:4].hex() != key_id:
        raise ValueError("a bad verifier key")
    text, signatures = note.rsplit("\n\n", 1)
    text += "\n"
    for line in signatures.splitlines():
        dash, signer, signature = line.split(" ")
        signature = base64.b64decode(signature)
        if dash == "\u2014" and signer == name and signature[:4].hex() == key_id:
            Ed25519PublicKey.from_public_bytes(key[1:]).verify(signature[4:], text.encode())
            return text
    raise ValueError("not signed by this key")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        bundle = json.load(file)
    try:
        origin, size, root = open_note(bundle["checkpoint"], sys.argv[2]).split("\n")[:3]
        proof = [base64.b64decode(node) for node in bundle["proof"]]
        found = root_of(leaf_hash(bundle["record"]), bundle["record"]["seq"] - 1, int(size), proof)
    except (ValueError, InvalidSignature) as error:
        sys.exit(f"NOT verified: {error!r}")
    if found != base64.b64decode(root):
        sys.exit("NOT verified: the record is not in the tree")
    print(f"verified: record {bundle['record']['seq']} of {size} in {origin}")


main()
