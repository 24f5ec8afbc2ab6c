"""check-features.py GPT SAE JSON -- what features says of texts, recomputed in double precision from the checkpoints."""
import json, os, struct, sys

import numpy as np

sys.path.insert(0, os.path.dirname(__file__))
from gpt import Gpt

doc = json.load(open(sys.argv[3]))
gpt, sae = Gpt(sys.argv[1], 2), Gpt(sys.argv[2], 0).w
T = len(gpt.w['transformer.wpe.weight'])
assert (doc['format'], doc['block'], doc['features']) == (1, T, len(sae['encoder.bias'])), 'sizes'


def near(a, b, what):
    assert abs(a - b) <= 2e-4 * (1 + abs(b)), '%s: %r, not %r' % (what, a, b)


for x in doc['texts']:
    ids = np.array([t['id'] for t in x['tokens']])
    nll = []
    for start in range(0, len(ids), T):
        part = ids[start:start + T][None]
        f = np.maximum((gpt.acts(part)[0] - sae['decoder.bias']) @ sae['encoder.weight'].T + sae['encoder.bias'], 0)
        targets = np.append(ids, 0)[start + 1:start + 1 + part.size]
        nll += list(gpt.nll(part, targets[None])[0])
        for t, row in enumerate(f, start):
            said = x['tokens'][t]['features']
            assert said == sorted(said, key=lambda e: (-e[1], e[0])), 'order at %d' % t
            own = np.zeros(len(row))
            for k, v in said:
                assert v > 0 and own[k] == 0, 'feature %d at %d' % (k, t)
                own[k] = v
            assert np.abs(own - row).max() <= 2e-4 * (1 + row.max()), 'activations at %d' % t
            assert set(np.flatnonzero(row > 1e-3)) <= {k for k, _ in said}, 'active features at %d' % t
    assert x['tokens'][0]['logprob'] is None
    for t in range(1, len(ids)):
        near(x['tokens'][t]['logprob'], -nll[t - 1], 'log-probability at %d' % t)
    if len(ids) > 1:
        near(x['loss'], np.mean(nll[:-1]), 'loss')
    else:
        assert x['loss'] is None
print(len(doc['texts']), sum(len(x['tokens']) for x in doc['texts']), sum(len(t['features']) for x in doc['texts'] for t in x['tokens']))
