"""Check that a backend keeps the contract of `ganrt.backend.Session`, for the tests of its author:

    import ganrt
    from ganrt.testing import check_backend


    def test_contract():
        check_backend("my_backend", ganrt.Bundle.read("tiny.ganrt"))  # has open(bundle, variant, device, **options)

Any exported bundle works; a small one is fast. `contract` has the promises that a session keeps while it is used,
`life_cycle` those that concern its process. A ContractError names the first one that is broken.
"""

from ganrt.testing.contract import check_backend, check_session
from ganrt.testing.life_cycle import check_life_cycle

__all__ = ["check_backend", "check_life_cycle", "check_session"]
