"""lm-eval's model, with lines that say how far its requests are. lm-eval is imported only where it is asked for."""

from __future__ import annotations

from typing import Any, TextIO

from ..progress import Progress


def metered_lm(stream: TextIO) -> Any:
    """lm-eval's model of transformers, with lines on ``stream`` that say how far its requests are."""
    from lm_eval.models.huggingface import HFLM

    class Metered(HFLM):
        meter = Progress("", None, "")

        def loglikelihood(self, requests: Any, *args: Any, **options: Any) -> Any:
            return self._metered(super().loglikelihood, requests, *args, **options)

        def loglikelihood_rolling(self, requests: Any, *args: Any, **options: Any) -> Any:
            return self._metered(super().loglikelihood_rolling, requests, *args, **options)

        def generate_until(self, requests: Any, *args: Any, **options: Any) -> Any:
            return self._metered(super().generate_until, requests, *args, **options)

        def _metered(self, work: Any, requests: Any, *args: Any, **options: Any) -> Any:
            with Progress("", len(requests), "requests", stream) as self.meter:
                return work(requests, *args, **options)

        def _model_call(self, inps: Any, *args: Any, **options: Any) -> Any:
            found = super()._model_call(inps, *args, **options)
            self.meter.add(len(inps))
            return found

        def _model_generate(self, context: Any, *args: Any, **options: Any) -> Any:
            found = super()._model_generate(context, *args, **options)
            self.meter.add(len(context))
            return found

    return Metered
