"""The traps of our brokers and their SDKs, and the test that each of them has.

Every test fails when its guard is taken away; its docstring names the guard and where the trap is written up.

Interactive Brokers (test_traps_ibkr.py, both SDKs)

| trap | test |
|---|---|
| Cancelled after 10349, then filled | test_a_preset_notice_10349_is_no_cancel |
| a preset sets the time in force | test_the_time_in_force_is_always_said |
| Cancelled after 10148, 161, 10147, 135 on a live order | test_a_cancel_that_fails_leaves_a_live_order_live |
| PendingSubmit for ever after 110, 434 | test_a_refusal_that_the_sdk_takes_for_a_warning_is_refused |
| 404: held while shares are located | test_an_order_held_while_shares_are_located_is_live |
| 399: an order message | test_an_order_message_399_leaves_the_order_live |
| a code without a row | test_a_code_that_nobody_has_classified_is_unknown |
| Inactive, error first | test_inactive_after_the_error_is_a_rejection |
| Inactive, status first | test_inactive_before_the_error_is_a_rejection_too |
| Inactive, nothing else | test_inactive_without_a_reason_decides_nothing |
| 201 for an order that the wire shows | test_a_refusal_after_ib_has_shown_the_order_is_unknown |
| a fill without orderStatus | test_a_fill_without_any_status_is_seen |
| doubled statuses | test_doubled_statuses_change_nothing |
| executions replayed silently | test_an_execution_replayed_after_a_reconnect_is_told_once_and_not_lost |
| execution times without a zone | test_a_naive_execution_time_is_read_in_the_gateways_zone |
| nextValidId rolls back | test_order_ids_are_never_used_again_after_a_rollback |
| nextValidId rolls back, and we have restarted | test_a_rollback_after_our_own_restart_is_caught_by_what_ib_shows |
| 1100, 1102: missed fills | test_what_1100_cut_off_is_unknown_and_nothing_is_sent_until_it_is_read_again |
| 1100 with an order in flight | test_an_order_in_flight_at_1100_is_unknown |
| gateway restart with an order in flight | test_an_order_in_flight_at_a_gateway_restart_is_unknown_and_found |
| 326: client id in use | test_a_client_id_in_use_is_said_so_at_once |
| RaiseRequestErrors off: empty results | test_a_failed_request_is_an_error_and_not_an_empty_result |
| connect with muted executions | test_a_connect_whose_executions_are_not_answered_stays_closed |
| orders wait in the SDK's throttle queue | test_orders_never_wait_in_the_sdks_own_queue |

Alpaca (test_traps_alpaca.py)

| trap | test |
|---|---|
| the SDK repeats POST after 429 and 504 | test_the_sdk_does_not_send_again |
| 504 after the order was taken | test_a_504_after_the_order_was_taken_is_unknown_and_found |
| "must be unique" is our own order | test_must_be_unique_after_a_lost_answer_is_our_own_order |
| "must be unique" is a foreign order | test_must_be_unique_for_an_order_with_other_terms_stays_unknown |
| "must be unique", and the look-up fails | test_a_taken_id_that_cannot_be_looked_up_stays_unknown |
| no HTTP timeout | test_every_call_ends_though_the_sdk_has_no_timeout |
| the live URL | test_the_live_url_has_to_be_asked_for |
| the SDK's default is the live URL | test_without_a_url_it_is_paper |
| int(qty) of fractional positions | test_a_fraction_of_a_share_is_held_exactly |
| HTML error bodies | test_an_html_page_is_nobodys_answer |
| a 404 that is not Alpaca's | test_a_lookup_that_fails_is_no_proof_of_absence |
| the stream dies with its handler | test_a_handler_that_fails_does_not_end_the_stream |
| wrong keys hammer the stream | test_refused_keys_do_not_hammer_the_stream |
| the stream's login is never answered | test_a_stream_that_goes_on_saying_other_things_is_left_and_tried_again |
| events are lost during a reconnect | test_what_the_stream_missed_is_read_when_it_is_back |

TD Ameritrade and Schwab (test_traps_tda.py, both dialects)

| trap | test |
|---|---|
| Location of another order | test_a_location_that_leads_to_another_order_is_not_believed |
| no Location | test_an_order_without_a_location_is_unknown_and_found_by_its_terms |
| 201, then REJECTED | test_a_201_that_ends_rejected_is_refused |
| listings lag | test_a_listing_that_lags_proves_no_absence |
| 201, but not readable yet | test_an_order_taken_but_not_readable_yet_is_unknown_until_it_is_found |
| look-alikes | test_look_alikes_are_never_guessed |
| 401: replay once | test_an_expired_token_is_renewed_once_and_the_order_sent_once |
| 401 again and again | test_a_second_401_is_a_lost_access_and_no_loop |
| 401, and no new token | test_a_token_that_cannot_be_renewed_sends_nothing |
| the refresh token has run out | test_a_refresh_token_that_has_run_out_is_named |
| ... and is offered with every order | test_a_refused_chain_is_not_offered_with_every_order |
| rotated refresh token, restart | test_a_rotated_refresh_token_survives_a_restart |
| a crash between the two writes | test_a_rotated_refresh_token_survives_a_crash_between_the_two_writes |
| several workers refresh at once | test_many_workers_refresh_once |
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent


def traps() -> dict[str, str]:
    """Return the docstring of every trap's test, by name."""
    nodes = [node for path in HERE.glob("test_traps_*.py") for node in ast.parse(path.read_text()).body]
    tests = [node for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return {test.name: ast.get_docstring(test) or "" for test in tests}


def test_the_table_names_every_trap() -> None:
    named = re.findall(r"\| (test_\w+) +\|", __doc__ or "")
    assert len(named) == len(set(named))
    assert set(named) == set(traps())


def test_every_trap_names_its_guard_and_its_source() -> None:
    for name, words in traps().items():
        assert "\nGuard: " in words, name
        assert re.search(r"docs/facts/\w+\.md#\d", words), name
