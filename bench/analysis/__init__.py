"""From records to claims: arrays, intervals, scores, the sentence. Nothing here opens a network or draws a sample."""
