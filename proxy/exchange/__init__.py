"""One request's life: decide, claim, send, record, answer.

``exchange``  the story of a deduplicated request, top to bottom
``claims``    the claim before it, within its time
``attempt``   one attempt: send, judge, record
``settling``  asking again while the caller waits; ``sightings``: when this process first saw an attempt
``passing``   requests that pass without protection
``waiting``   duplicates that wait, in this process and for other processes' attempts
``bulkhead``  bounded places, so that one slow provider can't take all
``told``      what a caller is told
``refusals``  the problems a request may end in
"""
